//! INFO sentinel: what a Sentinel watches, a line a master.

use super::Page;
use crate::exec::io::MemoryFigures;
use crate::exec::server::Server;

pub(super) fn section(page: &mut Page, server: &Server, _: &MemoryFigures) {
    let Some(watching) = &server.sentinel else {
        return;
    };
    let sentinel = &watching.machine;
    let tilt = sentinel.tilt_since_ms();
    let now_ms = server.now.ms() as i64;
    let simulated =
        u8::from(sentinel.crash_after_election) | u8::from(sentinel.crash_after_promotion) << 1;
    page.line("sentinel_masters", sentinel.masters().count());
    page.line("sentinel_tilt", u8::from(tilt.is_some()));
    let tilt_s = tilt.map_or(-1, |since_ms| (now_ms - since_ms) / 1000);
    page.line("sentinel_tilt_since_seconds", tilt_s);
    page.line("sentinel_running_scripts", sentinel.scripts_running());
    page.line("sentinel_scripts_queue_length", sentinel.jobs().len());
    page.line("sentinel_simulate_failure_flags", simulated);
    for (n, master) in sentinel.masters().enumerate() {
        let watched = &master.watched;
        let status = match (watched.o_down, master.s_down) {
            (true, _) => "odown",
            (_, true) => "sdown",
            _ => "ok",
        };
        page.line(
            &format!("master{n}"),
            format_args!(
                "name={},status={status},address={}:{},slaves={},sentinels={}",
                master.name,
                sentinel.announced(&master.addr),
                master.addr.port,
                watched.replicas.len(),
                watched.sentinels.len() + 1
            ),
        );
    }
}
