//! What is done each time before the loop sleeps, in this order and for these reasons.

use std::any::Any;

use crate::exec::conn::Token;
use crate::exec::io::Io;
use crate::exec::link::Target;
use crate::exec::persistence::{Errand, Work};
use crate::exec::server::{Effect, Server};

/// So long a turn goes on with clients whose wait is over; those that are left come first in the next.
const RESUMING_NS: u64 = 200_000;
/// So long it closes sockets, which takes the kernel longer than a request.
const CLOSING_NS: u64 = 200_000;

/// The world as the phases act on it: sockets and threads in the process, values in tests.
pub trait Outside {
    /// The second door.
    fn io(&mut self) -> &mut dyn Io;
    /// This connection has input left to run: its turn comes again.
    fn again(&mut self, token: Token);
    /// Sends what connections have to say, as far as they take it.
    fn flush(&mut self, server: &mut Server);
    /// Closes a connection that the server has let go of.
    fn close(&mut self, token: Token);
    /// Lets small writes to a connection be gathered into larger packets.
    fn gather(&mut self, token: Token);
    /// Connects a link: the server will hear of it.
    fn connect(&mut self, server: &mut Server, token: Token, serial: u64, target: Target);
    /// Starts a job on another thread.
    fn start(&mut self, errand: Errand, work: Work);
    /// Drops a value where there is time for it; `items` is its effort.
    fn free(&mut self, what: Box<dyn Any + Send>, items: usize);
}

/// Runs all phases. See each for the reason of its place.
pub fn before_sleep(server: &mut Server, world: &mut dyn Outside) {
    // Links that broke first: somebody may wait for what will not come any more.
    server.tell_lost_links(world.io());
    // A Sentinel's time has come, and what it says leaves with the rest.
    server.watch(world.io());
    // Then clients whose wait is over: what they change is logged and answered with the rest.
    give_up_waiting(server, world.io());
    server.refill_sync();
    // What debuggers have to say leaves with the rest.
    server.tend_debugging();
    resume_input(server, world);
    // Expired keys go before memory is judged by what is left.
    expire_fast(server, world.io());
    evict_on(server, world.io());
    go_on_loading(server, world.io());
    // What has gone has left holes.
    server.defrag(world.io());
    // All that will change in this turn has: those who cache hear of it with the other output.
    server.broadcast_changes();
    // Replicas are asked how far they are after those who want to know have begun to wait.
    server.ask_replicas();
    server.failover_step(world.io());
    // What nodes of the cluster are told is saved before, and what it changes here is logged with the rest.
    server.settle_cluster(world.io());
    // The log is written before any reply leaves that speaks of it, and before replicas hear of it.
    server.flush_log(world.io(), false);
    server.gate_stream();
    server.flow();
    world.flush(server);
    // What is written makes room for more of what is under way.
    server.feed_transfer();
    server.feed_bulks();
    server.trim_backlog();
    // Output is out: those that are to be closed can go, and their effects with them.
    close_doomed(server);
    if server.config.client_memory_limit() != 0 {
        server.evict_clients();
    }
    carry_out(server, world);
}

/// What of it is done when a command that takes long gives way to others, from within.
pub fn while_busy(server: &mut Server, world: &mut dyn Outside) {
    resume_input(server, world);
    server.save_cluster_while_busy(world.io());
    server.flush_log(world.io(), false);
    server.gate_stream();
    server.flow();
    world.flush(server);
    close_doomed(server);
    carry_out(server, world);
}

fn give_up_waiting(server: &mut Server, io: &mut dyn Io) {
    server.expire_blocked();
    server.expire_migrations(io);
    server.pause.end_at(server.now.ms());
    server.end_load_wait();
    if std::mem::take(&mut server.pause.eased) {
        server.resume_paused(io);
    }
    if !server.unit.ready.is_empty() {
        server.serve_blocked(io);
    }
}

/// Input that arrived behind a command that had to wait runs once the wait is over.
fn resume_input(server: &mut Server, world: &mut dyn Outside) {
    let until_ns = world.io().mono_ns() + RESUMING_NS;
    let mut waiting = std::mem::take(&mut server.resumable).into_iter();
    for token in waiting.by_ref() {
        if server.resume(world.io(), token) {
            world.again(token);
        }
        if world.io().mono_ns() >= until_ns {
            break;
        }
    }
    server.resumable.splice(..0, waiting);
    for token in std::mem::take(&mut server.reread) {
        world.again(token);
    }
}

fn expire_fast(server: &mut Server, io: &mut dyn Io) {
    if server.expires_keys() {
        server.expire_cycle(io, crate::db::expire::Kind::Fast);
    }
}

fn evict_on(server: &mut Server, io: &mut dyn Io) {
    if std::mem::take(&mut server.evict_more) {
        server.make_room(io);
    }
}

/// The loading of a log goes on in steps.
fn go_on_loading(server: &mut Server, io: &mut dyn Io) {
    if server.persistence.replay.is_some() {
        server.go_on_replaying(io);
    }
}

fn close_doomed(server: &mut Server) {
    for token in server.doomed.clone() {
        if !server.is_protected(token) {
            server.disconnect(token);
        }
    }
}

fn carry_out(server: &mut Server, world: &mut dyn Outside) {
    if server.effects.is_empty() {
        return;
    }
    let until_ns = world.io().mono_ns() + CLOSING_NS;
    for effect in std::mem::take(&mut server.effects) {
        match effect {
            Effect::Close(_) if world.io().mono_ns() >= until_ns => server.effects.push(effect),
            // Somebody is still in its command.
            Effect::Close(token) if server.is_protected(token) => server.effects.push(effect),
            Effect::Close(token) => {
                world.close(token);
                server.conns.remove(token);
            }
            Effect::Connect {
                token,
                serial,
                target,
            } => world.connect(server, token, serial, target),
            Effect::Free { what, items } => world.free(what, items),
            Effect::Gather(token) => world.gather(token),
            Effect::Start(errand, work) => world.start(errand, work),
            Effect::Exit(code) => server.exiting = Some(code),
        }
    }
}
