//! What is done each time before the loop sleeps, in this order and for these reasons.

use crate::server::drive::Os;
use crate::server::net::Net;
use crate::server::server::{Effect, Server};

/// Runs all phases. See each for the reason of its place.
pub fn before_sleep(server: &mut Server, os: &mut Os, net: &mut Net) {
    // Clients whose wait is over first: what they change is logged and answered with the rest.
    give_up_waiting(server, os);
    resume_input(server, os, net);
    // Expired keys go before memory is judged by what is left.
    expire_fast(server, os);
    evict_on(server, os);
    // (A log is written here once there is one: no reply may leave before what it speaks of.)
    net.flush(server, os);
    // Output is out: those that are to be closed can go, and their effects with them.
    close_doomed(server);
    if server.config.client_memory_limit() != 0 {
        server.evict_clients(None);
    }
    carry_out(server, os, net);
}

fn give_up_waiting(server: &mut Server, os: &mut Os) {
    server.expire_blocked();
    let now = server.now.ms();
    let over = |until: Option<u64>| until.is_some_and(|t| t <= now);
    if over(server.pause.all_until) {
        server.pause.all_until = None;
    }
    if over(server.pause.write_until) {
        server.pause.write_until = None;
    }
    if !server.blocked.paused.is_empty() && server.pause.all_until.is_none() {
        server.resume_paused(os);
    }
    if !server.unit.ready.is_empty() {
        server.serve_blocked(os);
    }
}

/// Input that arrived behind a command that had to wait runs once the wait is over.
fn resume_input(server: &mut Server, os: &mut Os, net: &mut Net) {
    for token in std::mem::take(&mut server.resumable) {
        if server.resume(os, token) {
            net.again(&mut os.doors, token);
        }
    }
}

fn expire_fast(server: &mut Server, os: &mut Os) {
    if server.active_expire && !server.loading {
        server.expire_cycle(os, crate::db::expire::Kind::Fast);
    }
}

fn evict_on(server: &mut Server, os: &mut Os) {
    if std::mem::take(&mut server.evict_more) {
        server.make_room(os);
    }
}

fn close_doomed(server: &mut Server) {
    for token in server.doomed.clone() {
        server.disconnect(token);
    }
}

fn carry_out(server: &mut Server, os: &mut Os, net: &mut Net) {
    for effect in std::mem::take(&mut server.effects) {
        match effect {
            Effect::Close(token) => {
                net.close(&mut os.doors, token);
                server.conns.remove(token);
            }
            Effect::Free { what, items } => os.free(what, items),
            Effect::Exit(code) => server.exiting = Some(code),
        }
    }
}
