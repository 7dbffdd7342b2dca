//! A server that is a node of a cluster: what the machine ([`crate::cluster`]) says is to be done, done.
//!
//! ```text
//! load_cluster      at the start: the file is locked and read, or there will be one
//! with_cluster      a command has something for the machine; then what it says is done, in order
//! a link's news     connected, bytes, closed: told to the machine; it says what it makes of that
//! settle_cluster    before each sleep: its tick, once that is due, and what it has put off: above all, to save
//! ```
//! Messages that were to be sent lie in the connections' output until all that is through and nothing is left to be
//! saved: a vote, or an epoch, that was told to others is on the disk.
//!
//! While a script keeps everybody waiting, the bus goes on, for who is silent is thought dead. But who we follow, and what
//! keys we have, does not change under the script: that waits for its end.

use std::any::Any;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::base::errno;
use crate::base::planted::{self, Bug};
use crate::base::rng::Rng;
use crate::cluster::{Action, Cluster, ConnId, Facts};
use crate::cmd::session::Token;
use crate::exec::bus::settings;
use crate::exec::io::{Disk, Io};
use crate::exec::link::{News, Owner, Target};
use crate::exec::server::Server;

impl Server {
    /// Where the file is, and how the configuration calls it.
    fn nodes_file(&self) -> (PathBuf, String) {
        let name = &self.config.cluster_config_file;
        let path = self.config.dir.as_path().join(name.as_path());
        (path, name.lossy().into_owned())
    }

    /// Takes up the state that the file holds. `Err`: the server can't start, and the log says why.
    pub fn load_cluster(&mut self, io: &mut dyn Io) -> Result<(), String> {
        if self.cluster.is_none() {
            return Ok(());
        }
        // (It will be loaded once we know who we are.)
        self.persistence.starting = true;
        let (path, name) = self.nodes_file();
        let disk = io.disk();
        let lock = disk.lock(&path).map_err(|e| match e.kind() {
            ErrorKind::WouldBlock => format!(
                "Sorry, the cluster configuration file {name} is already used by a different Redis Cluster node. Please make sure that different nodes use different cluster configuration files."
            ),
            _ => format!(
                "Can't open {name} in order to acquire a lock: {}",
                errno::text(&e)
            ),
        })?;
        self.bus.lock = Some(lock);
        let mut text = Vec::new();
        let read = disk
            .open(&path)
            .and_then(|(mut file, _)| file.read_to_end(&mut text));
        // It may have its name since a start that ended because this failed, and is to keep it now that others hear of it.
        let dir = path.parent().filter(|_| !text.is_empty());
        let kept = read.and_then(|_| dir.map_or(Ok(()), |dir| disk.sync_dir(dir)));
        kept.map_err(|e| {
            let why = errno::text(&e);
            format!("Loading the cluster node config from {name}: {why}")
        })?;
        let now_ms = self.now.ms() as i64;
        let rng = Rng::new(self.rng.next_u64());
        let loaded = Cluster::from_file(now_ms, rng, &text).map_err(|corrupt| {
            format!(
                "Unrecoverable error: corrupted cluster config file \"{}\".",
                corrupt.0
            )
        })?;
        match loaded {
            Some(cluster) => self.cluster = Some(Box::new(cluster)),
            None => {
                if let Some(cluster) = &mut self.cluster {
                    cluster.begin_anew();
                }
            }
        }
        self.settle_cluster(io);
        Ok(())
    }

    /// Lets the machine hear of something, and does what it wants done then. `None` if this is no node of a cluster.
    pub fn with_cluster<R>(
        &mut self,
        io: &mut dyn Io,
        f: impl FnOnce(&mut Cluster) -> R,
    ) -> Option<R> {
        let facts = self.cluster_facts();
        let now_ms = self.now.ms() as i64;
        let machine = self.cluster.as_mut()?;
        machine.set_now(now_ms);
        machine.set_settings(settings(&self.config));
        machine.set_facts(facts);
        let result = f(machine);
        self.do_for_cluster(io);
        Some(result)
    }

    fn cluster_facts(&self) -> Facts {
        let link = self.repl.following.as_ref().map(|f| &f.link);
        let now_ms = self.now.ms();
        let age_ms = |since_ms: u64| (now_ms / 1000).saturating_sub(since_ms / 1000) * 1000;
        let data_age_ms = link.map_or(now_ms, |link| match link.is_online() {
            true => age_ms(link.heard_ms()),
            false => age_ms(link.down_since_ms().unwrap_or(0)),
        });
        let follows = self.config.replicaof.is_some();
        let offset = match follows {
            true => link.and_then(|l| l.place()).map_or(0, |p| p.offset.max(0)),
            false => self.repl.history.offset(),
        };
        Facts {
            offset,
            follows,
            data_age_ms: i64::try_from(data_age_ms).unwrap_or(i64::MAX),
            has_keys: !self.dbs.db(0).is_empty(),
            is_loading: self.loading || self.async_loading || self.persistence.starting,
        }
    }

    fn do_for_cluster(&mut self, io: &mut dyn Io) {
        // Under a script, or in a transaction, the rest waits.
        let busy = self.nesting > 1 || self.busy().is_some();
        if !busy {
            for action in std::mem::take(&mut self.bus.put_off) {
                self.do_on_bus(io, action);
            }
        }
        // (What is done may have the machine say more.)
        while let Some(actions) = self.cluster.as_mut().map(|c| c.take_actions()) {
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match busy && !goes_on(&action) {
                    true => self.bus.put_off.push(action),
                    false => self.do_on_bus(io, action),
                }
            }
        }
    }

    fn do_on_bus(&mut self, io: &mut dyn Io, action: Action) {
        match action {
            Action::Connect { conn, ip, port } => self.call_node(conn, ip, port),
            Action::Close(conn) => self.hang_up_on_node(conn),
            Action::Send(conn, bytes) => {
                let token = self.bus.tokens.get(&conn).copied();
                if let Some(token) = token
                    && let Some(conn) = self.conns.get_mut(token)
                {
                    conn.write_push(|reply| reply.chunk(bytes));
                    self.wants_write(token);
                }
            }
            Action::Persist { sure } => {
                if self.save_nodes(io, sure).is_err() {
                    log::warn!("Fatal: can't update cluster config file.");
                    self.exiting = Some(1);
                    self.fall_silent();
                }
            }
            Action::Follow { ip, port } => self.set_master(io, ip.as_bytes(), port),
            Action::Lead => self.unset_master(io),
            Action::DropKeys(slots) => {
                for slot in slots {
                    self.drop_slot(io, slot);
                }
            }
            Action::SlotMoved(slot) => self.leave_shard_channels(slot),
            Action::DropAll => {
                self.flush_databases(0..self.dbs.count() as u32, false);
                if self.nesting == 0 {
                    self.end_unit(io);
                }
            }
            Action::Publish {
                channel,
                message,
                sharded: true,
            } => {
                self.publish_shard(&channel, &message);
            }
            Action::Publish {
                channel, message, ..
            } => {
                self.publish(&channel, &message);
            }
            Action::PauseWrites(until_ms) => {
                self.pause.failover_until = until_ms.and_then(|ms| u64::try_from(ms).ok());
                self.pause.eased |= until_ms.is_none();
            }
            Action::Log(level, text) => level.log(&text),
        }
    }

    fn call_node(&mut self, conn: ConnId, host: String, port: u16) {
        let source = self.config.bind_source_addr.lossy().into_owned();
        let target = Target {
            host,
            port,
            source,
            tls: self.config.tls_cluster,
        };
        let token = self.open_link(Owner::Bus, target);
        self.bus.tie(conn, token);
    }

    fn hang_up_on_node(&mut self, conn: ConnId) {
        if let Some(token) = self.bus.tokens.remove(&conn) {
            self.bus.conns.remove(&token);
            self.close_link(token);
        }
    }

    /// What could not be saved is not told either: what lies in the connections never leaves.
    fn fall_silent(&mut self) {
        let conns: Vec<ConnId> = self.bus.tokens.keys().copied().collect();
        for conn in conns {
            self.hang_up_on_node(conn);
        }
    }

    /// A link's news.
    pub(crate) fn hear_bus(&mut self, io: &mut dyn Io, token: Token, news: News<'_>) {
        let Some(&conn) = self.bus.conns.get(&token) else {
            return;
        };
        match news {
            News::Connected => {
                let Some(peer) = self.conns.get(token).map(|c| c.peer.clone()) else {
                    return;
                };
                self.with_cluster(io, |cluster| {
                    cluster.connected(conn, (peer.ip(), peer.port()), peer.own_ip());
                });
            }
            News::Data(data) => {
                self.with_cluster(io, |cluster| cluster.receive(conn, data));
            }
            News::Closed(why) => {
                self.bus.tokens.remove(&conn);
                self.bus.conns.remove(&token);
                self.with_cluster(io, |cluster| cluster.closed(conn, why.as_deref()));
            }
        }
    }

    /// Writes the state into its file, and onto the disk if it is to be `sure`. A failure is in the log.
    pub fn save_nodes(&mut self, io: &mut dyn Io, sure: bool) -> io::Result<()> {
        let Some(text) = self.cluster.as_ref().map(|cluster| cluster.to_file()) else {
            return Ok(());
        };
        let (path, _) = self.nodes_file();
        let mut temp = OsString::from(&path);
        temp.push(format!(".tmp-{}-{}", self.process.pid, self.now.ms()));
        let temp = PathBuf::from(temp);
        let disk = io.disk();
        let replaced = replace(&*disk, &temp, &path, text.as_bytes(), sure);
        if replaced.is_err() {
            // That it is there is no matter.
            let _ = disk.unlink(&temp);
        }
        self.bus.lock = Some(replaced?);
        if let Some(dir) = path.parent().filter(|_| sure) {
            told("Could not sync cluster config file dir", disk.sync_dir(dir))?;
        }
        Ok(())
    }

    /// When the machine wants to be called next, unix time in ms.
    pub fn next_cluster_tick(&self) -> Option<u64> {
        let cluster = self.cluster.as_ref().filter(|_| self.cluster_ticks())?;
        Some(u64::try_from(cluster.next_timeout()).unwrap_or(0))
    }

    /// Its time stands still while a master loads its data at the start, and with DEBUG PAUSE-CRON.
    fn cluster_ticks(&self) -> bool {
        !self.starts_as_master() && !self.cron_paused
    }

    /// The machine's tick, once it is due, and then what it has put off.
    pub(super) fn settle_cluster(&mut self, io: &mut dyn Io) {
        let Some(cluster) = self.cluster.as_ref() else {
            return;
        };
        let wait_ms = cluster.next_timeout() - self.now.ms() as i64;
        // (A clock that was set back is no reason to wait.)
        let is_due = !(1..=TICK_MS_MAX).contains(&wait_ms);
        if is_due && self.cluster_ticks() {
            self.tell_queued();
            self.with_cluster(io, Cluster::tick);
        }
        let has_more = |c: &Cluster| c.has_todo() || c.has_actions();
        if self.cluster.as_deref().is_some_and(has_more) || !self.bus.put_off.is_empty() {
            self.with_cluster(io, Cluster::before_sleep);
        }
    }

    /// The same under a script: only what must not wait.
    pub(super) fn save_cluster_while_busy(&mut self, io: &mut dyn Io) {
        let has_more = |c: &Cluster| c.has_todo();
        if self.cluster.as_deref().is_some_and(has_more) {
            self.with_cluster(io, Cluster::save_if_due);
        }
    }

    /// The machine hears how much waits to be sent on its connections.
    pub fn tell_queued(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for (&conn, &token) in &self.bus.tokens {
            let queued = self.conns.get(token).map_or(0, |c| c.reply.len());
            cluster.note_queued(conn, queued);
        }
    }
}

/// Puts a file in the place of another by way of a temporary one. Gives the lock on it, which it has before it has the name.
fn replace(
    disk: &dyn Disk,
    temp: &Path,
    path: &Path,
    text: &[u8],
    sure: bool,
) -> io::Result<Box<dyn Any>> {
    let created = disk.create(temp);
    let mut file = told("Could not open temp cluster config file", created)?;
    let written = file.write_all(text);
    told("Failed after writing to tmp cluster config file", written)?;
    // It takes the place of a file that may be what a vote was given on: it must not be empty after a crash, whichever of the
    // two names the disk has by then. (Redis syncs it only if it is to be sure.)
    if sure || !planted::on(Bug::NodesFileUnsynced) {
        told("Could not sync tmp cluster config file", file.sync())?;
    }
    let lock = told(
        "Impossible to lock tmp cluster config file",
        disk.lock(temp),
    )?;
    let renamed = disk.rename(temp, path);
    told("Could not rename tmp cluster config file", renamed)?;
    Ok(lock)
}

/// A failure is told to the log.
fn told<T>(what: &str, result: io::Result<T>) -> io::Result<T> {
    result.inspect_err(|e| log::warn!("{what}: {}", errno::text(e)))
}

/// What is done even while a script keeps everybody waiting.
fn goes_on(action: &Action) -> bool {
    matches!(
        action,
        Action::Connect { .. }
            | Action::Close(_)
            | Action::Send(..)
            | Action::Persist { .. }
            | Action::Log(..)
    )
}

/// Ticks are never further apart.
const TICK_MS_MAX: i64 = 100;
