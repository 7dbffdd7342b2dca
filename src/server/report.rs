//! What only the server can add to a crash report: INFO, its clients, the command that was running.
//!
//! The report is written on the thread that crashed, maybe in the middle of a change, so that anything
//! here may fail; the report then goes on with its next section. No figure is asked of the allocator,
//! which may be what crashed, with its locks held.

use std::fmt::{self, Write};

use crate::admin::info::{Sections, info_text};
use crate::base::alloc;
use crate::config::set::show;
use crate::config::{ROWS, flag};
use crate::exec::io::MemoryFigures;
use crate::exec::server::Server;
use crate::server::crash::{Section, set_reporter, write_client};
use crate::server::procfs;

/// Lets crash reports tell of this server. It must stay where it is as long as the process runs.
pub fn report_on(server: &Server) {
    set_reporter(report, (&raw const *server).cast());
}

fn report(context: *const (), section: Section, out: &mut dyn Write) {
    // SAFETY: `report_on` was given a server that stays. Its owner may be in the middle of changing it,
    // on this thread or on another: a read of what is half changed crashes, if at all, inside the
    // report, which is made for that.
    let server = unsafe { &*context.cast::<Server>() };
    // Whoever reads the report has the rest of it.
    let _ = match section {
        Section::Info => out.write_str(&info_text(server, &figures(), Sections::all())),
        Section::ClientList => clients(server, out),
        Section::CurrentClient => current_client(server, out),
        // A script's; there are none.
        Section::ExecutingClient => Ok(()),
        Section::Config => config(server, out),
    };
}

fn figures() -> MemoryFigures {
    let (used, rss) = (alloc::used_memory() as usize, procfs::rss() as usize);
    MemoryFigures {
        used,
        rss,
        // What would be the allocator's to tell, so that the ratios make sense.
        allocated: used,
        active: used,
        resident: rss,
        system: procfs::total_memory() as usize,
        ..MemoryFigures::default()
    }
}

fn clients(server: &Server, out: &mut dyn Write) -> fmt::Result {
    for token in server.conns.tokens_by_id() {
        writeln!(out, "{}", server.client_line(token))?;
    }
    Ok(())
}

fn current_client(server: &Server, out: &mut dyn Write) -> fmt::Result {
    let Some(token) = server.current else {
        return Ok(());
    };
    // SAFETY: a command runs, as the line above says, and the process ends before it returns.
    let argv = unsafe { server.running.get() };
    write_client(out, &server.client_line(token), argv.iter().copied())
}

/// The directives that have a say in how a server may crash.
fn config(server: &Server, out: &mut dyn Write) -> fmt::Result {
    for row in ROWS.iter().filter(|row| row.is(flag::DEBUG)) {
        let value = show(row, &server.config);
        writeln!(out, "{} {}", row.name, String::from_utf8_lossy(&value))?;
    }
    Ok(())
}
