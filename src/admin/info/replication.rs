//! INFO replication: the role, the stream, who follows and who is followed.

use super::Page;
use crate::exec::io::MemoryFigures;
use crate::exec::server::Server;

pub(super) fn replication(page: &mut Page, server: &Server, _: &MemoryFigures) {
    let config = &server.config;
    let (history, master) = (&server.repl.history, &server.repl.master);
    match &config.replicaof {
        None => page.line("role", "master"),
        Some(followed) => {
            page.line("role", "slave");
            page.line("master_host", followed.host.lossy());
            page.line("master_port", followed.port);
            link_to_master(page, server);
        }
    }
    page.line("connected_slaves", master.replicas().len());
    if config.min_replicas_to_write > 0 && config.min_replicas_max_lag > 0 {
        page.line("min_slaves_good_slaves", master.good());
    }
    for (n, replica) in master.replicas().iter().enumerate() {
        page.line(
            &format!("slave{n}"),
            format_args!(
                "ip={},port={},state={},offset={},lag={}",
                replica.ip(),
                replica.said.port,
                replica.stage.name(),
                replica.acked,
                replica.lag_s(server.now.s())
            ),
        );
    }
    page.line("master_failover_state", server.failover_state());
    page.line("master_replid", history.id());
    page.line("master_replid2", history.id2());
    page.line("master_repl_offset", history.offset());
    page.line("second_repl_offset", history.second_offset());
    let backlog = history.backlog();
    page.line("repl_backlog_active", u8::from(backlog.is_some()));
    page.line("repl_backlog_size", config.repl_backlog_size);
    page.line(
        "repl_backlog_first_byte_offset",
        backlog.map_or(0, |backlog| backlog.first()),
    );
    page.line(
        "repl_backlog_histlen",
        backlog.map_or(0, |backlog| backlog.len()),
    );
}

/// The link to the master, and what is got over it.
fn link_to_master(page: &mut Page, server: &Server) {
    let (config, now_s) = (&server.config, server.now.s());
    let Some(following) = &server.repl.following else {
        return;
    };
    let link = &following.link;
    let heard_s = now_s.saturating_sub(link.heard_ms() / 1000);
    let up = link.is_online();
    page.line("master_link_status", if up { "up" } else { "down" });
    let ago = if up { heard_s as i64 } else { -1 };
    page.line("master_last_io_seconds_ago", ago);
    page.line("master_sync_in_progress", u8::from(link.is_syncing()));
    let applied = link.place().map(|place| place.offset);
    let read = applied.map_or(1, |_| following.read);
    page.line("slave_read_repl_offset", read);
    page.line("slave_repl_offset", applied.unwrap_or(1));
    if let Some(transfer) = link.transfer() {
        let percent = match transfer.total {
            0 => 0.0,
            total => transfer.read as f64 / total as f64 * 100.0,
        };
        let left = transfer.total.saturating_sub(transfer.read);
        page.line("master_sync_total_bytes", transfer.total);
        page.line("master_sync_read_bytes", transfer.read);
        page.line("master_sync_left_bytes", left);
        page.line("master_sync_perc", format_args!("{percent:.2}"));
        page.line("master_sync_last_io_seconds_ago", heard_s);
    }
    if !up {
        let since = link
            .down_since_ms()
            .map(|ms| now_s.saturating_sub(ms / 1000));
        let since = since.map_or(-1, |s| s as i64);
        page.line("master_link_down_since_seconds", since);
    }
    page.line("slave_priority", config.replica_priority);
    page.line("slave_read_only", u8::from(config.replica_read_only));
    page.line("replica_announced", u8::from(config.replica_announced));
    if config.replica_refuse_empty_master {
        // Ours: how often a master without data was refused.
        page.line("master_refused_empty", following.refusals);
    }
}
