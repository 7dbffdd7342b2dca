//! The master's side: who follows us, and how far each has come.
//!
//! ```text
//!                      PSYNC, and the backlog has it
//!            +----------------------------------------------+
//!            |                                              v
//! PSYNC --> waits --> snapshot --> bulk ----------------> online
//!          for one    is written   is sent from a file      ^
//!          to begin        |                                |
//!                          | is sent as it is made: silent until the first ACK
//!                          +--------------------------------+
//! ```
//! One snapshot serves all who wait when it is taken. Each of them then reads the stream from that moment on
//! ([`crate::repl::backlog`]), but its bytes flow only when the snapshot's are out: after a transfer of unknown
//! length the replica looks for the mark that ends it, and nothing may follow that mark before the replica has said that it found it.
//!
//! The machine is told what happens and says what to do ([`Action`]); it knows no socket and no clock. What a connection says of
//! itself with REPLCONF is kept here too, whether it goes on to be a replica or not.

use std::collections::BTreeMap;

use crate::base::planted::{self, Bug};
use crate::base::rng::Rng;
use crate::cmd::session::Token;
use crate::config::Config;
use crate::repl::backlog::Backlog;
use crate::repl::history::{History, Refusal};

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// Asks all replicas how far they are.
pub const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// Something that the outside has to do, in the order given.
pub enum Action {
    /// Send these bytes to a replica, outside of the stream.
    Send(Token, Vec<u8>),
    /// Append this to the stream; it belongs to no database.
    Feed(&'static [u8]),
    /// Take a snapshot, call [`Master::begun`], and send it to those who wait for it.
    Begin(Plan),
    /// Close the connection.
    Close(Token),
    /// The backlog is no more.
    Free(Backlog),
}

/// What is left out of a snapshot on request (`rdb-filter-only`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    pub data: bool,
    pub functions: bool,
}

impl Default for Parts {
    fn default() -> Parts {
        Parts {
            data: true,
            functions: true,
        }
    }
}

impl Parts {
    /// True if something is left out.
    pub fn are_some(self) -> bool {
        self != Parts::default()
    }
}

/// A full sync that is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// It is sent as it is made, and not through a file.
    pub streamed: bool,
    pub parts: Parts,
}

/// What a connection has said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    pub port: i64,
    pub ip: Option<String>,
    /// It can read a transfer whose end is a mark.
    pub eof: bool,
    /// It knows that IDs may change.
    pub psync2: bool,
    /// It wants a snapshot and no stream.
    pub rdb_only: bool,
    pub parts: Parts,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for a snapshot to be taken, since this unix time in seconds.
    Waits { since_s: u64 },
    /// The snapshot for it was taken when the stream had come to `offset`.
    Snapshot {
        offset: i64,
        streamed: bool,
        /// Since when its socket takes nothing, unix time in seconds.
        stuck_since_s: Option<u64>,
    },
    /// It is sent the file.
    Bulk { offset: i64 },
    /// It has all data. `silent`: it has yet to say that it found the end of the transfer.
    Online { silent: bool },
    /// It has the snapshot, and wanted no more.
    Served,
}

impl Stage {
    /// As INFO names it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Waits { .. } | Stage::Snapshot { .. } => "wait_bgsave",
            Stage::Bulk { .. } => "send_bulk",
            Stage::Online { .. } => "online",
            Stage::Served => "rdb_transmitted",
        }
    }
}

/// One who follows us.
#[derive(Clone, Debug)]
pub struct Replica {
    pub token: Token,
    /// Where it connects from.
    peer_ip: String,
    pub said: Announced,
    pub stage: Stage,
    /// It came with SYNC, and says nothing of how far it is.
    old: bool,
    /// Offset up to which it has run the stream, and up to which its log has it on disk.
    pub acked: i64,
    pub acked_aof: i64,
    /// Unix time in seconds of the last time it said so.
    pub acked_s: u64,
}

impl Replica {
    /// Its address, as it says or as it is seen.
    pub fn ip(&self) -> &str {
        self.said.ip.as_deref().unwrap_or(&self.peer_ip)
    }

    /// Its name in the log.
    pub fn name(&self) -> String {
        name(&self.said, &self.peer_ip)
    }

    /// True while the stream flows to it.
    pub fn flows(&self) -> bool {
        self.stage == Stage::Online { silent: false }
    }

    /// True once it has all data.
    pub fn is_online(&self) -> bool {
        matches!(self.stage, Stage::Online { .. })
    }

    /// Seconds since it said how far it is; 0 before it has all data.
    pub fn lag_s(&self, now_s: u64) -> u64 {
        match self.stage {
            Stage::Online { .. } => now_s.saturating_sub(self.acked_s),
            _ => 0,
        }
    }
}

fn name(said: &Announced, peer_ip: &str) -> String {
    let ip = said.ip.as_deref().unwrap_or(peer_ip);
    match said.port {
        0 => format!("{ip}:<unknown-replica-port>"),
        port if ip.contains(':') => format!("[{ip}]:{port}"),
        port => format!("{ip}:{port}"),
    }
}

/// What a would-be replica asks for.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// To go on with the stream of this ID from this offset.
    Psync { id: &'a [u8], from: i64 },
    /// All data; it knows no more words.
    Sync,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    Partial,
    /// `failed`: it had hoped to get less.
    Full {
        failed: bool,
    },
}

/// The snapshot that is being written, if one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderWay {
    Nothing,
    File,
    Stream,
    /// One that is of no use to a replica: the log is rewritten.
    Rewrite,
}

/// What holds back the second's work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restraint {
    /// The stream is our master's, not ours.
    pub follows: bool,
    /// It must not grow now (a failover).
    pub no_ping: bool,
}

/// See the head of the file.
#[derive(Default)]
pub struct Master {
    /// In the order of their coming.
    replicas: Vec<Replica>,
    announced: BTreeMap<Token, Announced>,
    /// Unix time in seconds since when there is none.
    pub alone_since_s: u64,
    /// Those that count for `min-replicas-to-write`.
    good: usize,
    /// Seconds counted.
    rounds: u64,
}

impl Master {
    /// All who follow us, oldest first.
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// The replica on this connection.
    pub fn replica(&self, token: Token) -> Option<&Replica> {
        self.replicas.iter().find(|r| r.token == token)
    }

    fn replica_mut(&mut self, token: Token) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|r| r.token == token)
    }

    /// What a connection says of itself, to add to.
    pub fn announced(&mut self, token: Token) -> &mut Announced {
        match self.replicas.iter().position(|r| r.token == token) {
            Some(at) => &mut self.replicas[at].said,
            None => self.announced.entry(token).or_default(),
        }
    }

    /// A connection's name in the log.
    pub fn name_of(&self, token: Token, peer_ip: &str) -> String {
        match (self.replica(token), self.announced.get(&token)) {
            (Some(replica), _) => replica.name(),
            (None, Some(said)) => name(said, peer_ip),
            (None, None) => name(&Announced::default(), peer_ip),
        }
    }

    /// How many count for `min-replicas-to-write`.
    pub fn good(&self) -> usize {
        self.good
    }

    /// True if there are fewer good replicas than `min-replicas-to-write`.
    pub fn too_few(&self, config: &Config) -> bool {
        config.min_replicas_to_write > 0
            && config.min_replicas_max_lag > 0
            && self.good < config.min_replicas_to_write as usize
    }

    /// Counts the good ones anew.
    pub fn count_good(&mut self, now_s: u64, config: &Config) {
        let is_good = |r: &&Replica| {
            r.is_online() && now_s.saturating_sub(r.acked_s) <= config.min_replicas_max_lag
        };
        self.good = self.replicas.iter().filter(is_good).count();
    }

    /// How many have run the stream up to this offset.
    pub fn count_acked(&self, offset: i64) -> usize {
        let reached = |r: &&Replica| r.is_online() && r.acked >= offset;
        let acked = self.replicas.iter().filter(reached).count();
        match planted::on(Bug::AckCountedTwice) {
            true => (2 * acked).min(self.replicas.len()),
            false => acked,
        }
    }

    /// How many have it on disk up to this offset.
    pub fn count_acked_aof(&self, offset: i64) -> usize {
        let reached = |r: &&Replica| r.is_online() && r.acked_aof >= offset;
        self.replicas.iter().filter(reached).count()
    }

    /// True if nobody lacks anything.
    pub fn all_have(&self, offset: i64) -> bool {
        self.replicas.iter().all(|r| r.acked == offset)
    }

    /// True if a full sync is under way or waited for.
    pub fn is_syncing(&self) -> bool {
        let syncs = |r: &Replica| !matches!(r.stage, Stage::Online { .. } | Stage::Served);
        self.replicas.iter().any(syncs)
    }

    /// The names of the connections at a stage.
    pub fn at(&self, is: impl Fn(Stage) -> bool) -> Vec<Token> {
        let there = self.replicas.iter().filter(|r| is(r.stage));
        there.map(|r| r.token).collect()
    }
}

/// Where the world stands when something happens.
pub struct Moment<'a> {
    pub now_s: u64,
    pub history: &'a mut History,
    pub rng: &'a mut Rng,
    pub config: &'a Config,
    pub under_way: UnderWay,
}

impl Master {
    /// A connection asks to follow.
    pub fn ask(
        &mut self,
        token: Token,
        peer_ip: &str,
        request: Request<'_>,
        moment: &mut Moment<'_>,
    ) -> (Granted, Vec<Action>) {
        let said = self.announced.remove(&token).unwrap_or_default();
        let mut failed = false;
        if let Request::Psync { id, from } = request {
            match moment.history.can_continue(id, from) {
                Ok(()) => {
                    return (
                        Granted::Partial,
                        self.go_on(token, peer_ip, said, from, moment),
                    );
                }
                Err(why) => {
                    failed = !id.starts_with(b"?");
                    explain(why, &name(&said, peer_ip), id, from, moment.history);
                }
            }
        }
        let since_s = moment.now_s;
        self.add(token, peer_ip, said, Stage::Waits { since_s }, since_s);
        if let (Request::Sync, Some(replica)) = (request, self.replicas.last_mut()) {
            replica.old = true;
        }
        if self.replicas.len() == 1 && moment.history.backlog().is_none() {
            // What happened until now was counted by nobody.
            moment.history.change_id(moment.rng);
            moment.history.forget_second();
            moment.history.keep_backlog();
            log::info!(
                "Replication backlog created, my new replication IDs are '{}' and '{}'",
                moment.history.id(),
                moment.history.id2()
            );
        }
        (Granted::Full { failed }, self.serve(token, moment))
    }

    fn add(&mut self, token: Token, peer_ip: &str, said: Announced, stage: Stage, now_s: u64) {
        self.replicas.push(Replica {
            token,
            peer_ip: peer_ip.to_string(),
            said,
            stage,
            old: false,
            acked: 0,
            acked_aof: 0,
            acked_s: now_s,
        });
    }

    /// It goes on where it was.
    fn go_on(
        &mut self,
        token: Token,
        peer_ip: &str,
        said: Announced,
        from: i64,
        moment: &mut Moment<'_>,
    ) -> Vec<Action> {
        let answer = match said.psync2 {
            true => format!("+CONTINUE {}\r\n", moment.history.id()),
            false => "+CONTINUE\r\n".to_string(),
        };
        let name = name(&said, peer_ip);
        self.add(
            token,
            peer_ip,
            said,
            Stage::Online { silent: false },
            moment.now_s,
        );
        let mut sent = 0;
        if let Some(backlog) = moment.history.backlog_mut() {
            backlog.read_from(token, from);
            sent = backlog.end() - from;
        }
        log::info!(
            "Partial resynchronization request from {name} accepted. Sending {sent} bytes of backlog starting from offset {from}."
        );
        self.count_good(moment.now_s, moment.config);
        vec![Action::Send(token, answer.into())]
    }

    /// It waits for a snapshot: one that is under way may do, or one begins now, or later.
    fn serve(&mut self, token: Token, moment: &mut Moment<'_>) -> Vec<Action> {
        let Some(replica) = self.replica(token) else {
            return Vec::new();
        };
        let said = replica.said.clone();
        match moment.under_way {
            UnderWay::File => match self.fitting(&said) {
                Some(offset) => {
                    let mut actions = Vec::new();
                    self.promise(token, offset, false, moment, &mut actions);
                    log::info!("Waiting for end of BGSAVE for SYNC");
                    actions
                }
                None => {
                    log::info!(
                        "Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC"
                    );
                    Vec::new()
                }
            },
            UnderWay::Stream => {
                log::info!("Current BGSAVE has socket target. Waiting for next BGSAVE for SYNC");
                Vec::new()
            }
            UnderWay::Nothing => {
                let config = moment.config;
                let streamed = config.repl_diskless_sync && said.eof;
                if streamed && config.repl_diskless_sync_delay > 0 {
                    log::info!("Delay next BGSAVE for diskless SYNC");
                    return Vec::new();
                }
                vec![begin(&said, said.eof, config)]
            }
            UnderWay::Rewrite => {
                let config = moment.config;
                let delayed = config.repl_diskless_sync && said.eof;
                match delayed && config.repl_diskless_sync_delay > 0 {
                    true => log::info!("Delay next BGSAVE for diskless SYNC"),
                    false => log::info!(
                        "No BGSAVE in progress, but another BG operation is active. BGSAVE for replication delayed"
                    ),
                }
                Vec::new()
            }
        }
    }

    /// The offset of the snapshot that is being written to a file, if it was taken for a replica such as this.
    fn fitting(&self, said: &Announced) -> Option<i64> {
        self.replicas.iter().find_map(|other| {
            let Stage::Snapshot { offset, .. } = other.stage else {
                return None;
            };
            // Who wants the stream needs one that reads it from there.
            let reads = !other.said.rdb_only || said.rdb_only;
            let able = (said.eof || !other.said.eof) && (said.psync2 || !other.said.psync2);
            (reads && able && other.said.parts == said.parts).then_some(offset)
        })
    }

    /// Promises a replica the snapshot taken at `offset`, and the stream from there on.
    fn promise(
        &mut self,
        token: Token,
        offset: i64,
        streamed: bool,
        moment: &mut Moment<'_>,
        actions: &mut Vec<Action>,
    ) {
        let Some(replica) = self.replica_mut(token) else {
            return;
        };
        replica.stage = Stage::Snapshot {
            offset,
            streamed,
            stuck_since_s: None,
        };
        if !replica.old {
            let answer = format!("+FULLRESYNC {} {offset}\r\n", moment.history.id());
            actions.push(Action::Send(token, answer.into()));
        }
        if !replica.said.rdb_only
            && let Some(backlog) = moment.history.backlog_mut()
        {
            backlog.read_from(token, offset + 1);
        }
    }

    /// The snapshot of this plan was taken, just now.
    pub fn begun(&mut self, plan: Plan, moment: &mut Moment<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        let offset = moment.history.offset();
        for token in self.at(|stage| matches!(stage, Stage::Waits { .. })) {
            if self
                .replica(token)
                .is_some_and(|r| r.said.parts == plan.parts)
            {
                self.promise(token, offset, plan.streamed, moment, &mut actions);
            }
        }
        actions
    }

    /// The snapshot's file is there: who is to be sent it.
    pub fn written(&mut self) -> Vec<Token> {
        let mut tokens = Vec::new();
        for replica in &mut self.replicas {
            if let Stage::Snapshot {
                offset,
                streamed: false,
                ..
            } = replica.stage
            {
                replica.stage = Stage::Bulk { offset };
                tokens.push(replica.token);
            }
        }
        tokens
    }

    /// There will be no snapshot: those who were promised it are to be closed, and have to ask again.
    pub fn failed(&mut self, streamed: bool) -> Vec<Token> {
        let victims =
            self.at(|stage| matches!(stage, Stage::Snapshot { streamed: s, .. } if s == streamed));
        for _ in &victims {
            log::warn!("SYNC failed. BGSAVE child returned an error");
        }
        victims
    }

    /// A replica was sent all of its snapshot. True if it wanted no more, and is to be closed.
    pub fn sent(&mut self, token: Token, now_s: u64, config: &Config) -> bool {
        let Some(replica) = self.replica_mut(token) else {
            return false;
        };
        let streamed = matches!(replica.stage, Stage::Snapshot { .. });
        let name = replica.name();
        if streamed {
            log::info!(
                "Streamed RDB transfer with replica {name} succeeded (socket). Waiting for REPLCONF ACK from replica to enable streaming"
            );
        }
        if replica.said.rdb_only {
            replica.stage = Stage::Served;
            log::info!(
                "RDB transfer completed, rdb only replica ({name}) should be disconnected asap"
            );
            return true;
        }
        replica.stage = Stage::Online { silent: streamed };
        replica.acked_s = now_s;
        log::info!("Synchronization with replica {name} succeeded");
        self.count_good(now_s, config);
        false
    }

    /// Some of a streamed snapshot waits until a replica's socket takes it, which last took something at `moved_s`; `None`:
    /// nothing waits.
    pub fn is_stuck(&mut self, token: Token, moved_s: Option<u64>, now_s: u64) {
        if let Some(replica) = self.replica_mut(token)
            && let Stage::Snapshot { stuck_since_s, .. } = &mut replica.stage
        {
            *stuck_since_s = moved_s.map(|moved_s| stuck_since_s.unwrap_or(now_s).max(moved_s));
        }
    }

    /// A replica says how far it is.
    pub fn acked(&mut self, token: Token, offset: i64, aof: Option<i64>, now_s: u64) {
        let Some(replica) = self.replica_mut(token) else {
            return;
        };
        replica.acked = replica.acked.max(offset);
        replica.acked_aof = replica.acked_aof.max(aof.unwrap_or(i64::MIN));
        replica.acked_s = now_s;
        if replica.stage == (Stage::Online { silent: true }) {
            replica.stage = Stage::Online { silent: false };
        }
    }

    /// A connection is gone. The replica that it was.
    pub fn gone(&mut self, token: Token, now_s: u64, history: &mut History) -> Option<Replica> {
        self.announced.remove(&token);
        let at = self.replicas.iter().position(|r| r.token == token)?;
        let replica = self.replicas.remove(at);
        log::info!("Connection with replica {} lost.", replica.name());
        if let Some(backlog) = history.backlog_mut() {
            backlog.forget(token);
        }
        if self.replicas.is_empty() {
            self.alone_since_s = now_s;
        }
        Some(replica)
    }

    /// What is done once a second.
    pub fn every_second(&mut self, moment: &mut Moment<'_>, restraint: Restraint) -> Vec<Action> {
        let mut actions = Vec::new();
        let config = moment.config;
        if self.rounds.is_multiple_of(config.repl_ping_replica_period)
            && !self.replicas.is_empty()
            && !restraint.follows
            && !restraint.no_ping
        {
            actions.push(Action::Feed(PING));
        }
        for replica in &self.replicas {
            let waits = match replica.stage {
                Stage::Waits { .. } => true,
                Stage::Snapshot { streamed, .. } => !streamed,
                _ => false,
            };
            if waits {
                // No protocol, but a sign of life.
                actions.push(Action::Send(replica.token, b"\n".to_vec()));
            }
        }
        self.drop_the_silent(moment.now_s, config, &mut actions);
        if !restraint.follows {
            self.drop_old_backlog(moment, &mut actions);
        }
        actions.extend(self.pending(moment));
        self.count_good(moment.now_s, config);
        self.rounds += 1;
        actions
    }

    /// Those who say nothing, or take nothing, for `repl-timeout`.
    fn drop_the_silent(&self, now_s: u64, config: &Config, actions: &mut Vec<Action>) {
        for replica in &self.replicas {
            let (since_s, phase) = match replica.stage {
                Stage::Online { .. } if !replica.old => (replica.acked_s, "streaming sync"),
                Stage::Snapshot {
                    streamed: true,
                    stuck_since_s: Some(since_s),
                    ..
                } => (since_s, "full sync"),
                _ => continue,
            };
            if now_s.saturating_sub(since_s) > config.repl_timeout {
                log::warn!(
                    "Disconnecting timedout replica ({phase}): {}",
                    replica.name()
                );
                actions.push(Action::Close(replica.token));
            }
        }
    }

    /// Without replicas for `repl-backlog-ttl`, nobody will come back for it.
    fn drop_old_backlog(&self, moment: &mut Moment<'_>, actions: &mut Vec<Action>) {
        let ttl_s = moment.config.repl_backlog_ttl;
        let alone_s = moment.now_s.saturating_sub(self.alone_since_s);
        if !self.replicas.is_empty() || ttl_s == 0 || alone_s <= ttl_s {
            return;
        }
        let Some(backlog) = moment.history.drop_backlog() else {
            return;
        };
        // From here on nobody counts: the stream must not be known by its ID.
        moment.history.change_id(moment.rng);
        moment.history.forget_second();
        log::info!("Replication backlog freed after {ttl_s} seconds without connected replicas.");
        actions.push(Action::Free(backlog));
    }

    /// The full sync that is due, if one is: those who wait alike are served together, and with a streamed one it is
    /// given time that more may come.
    pub fn pending(&self, moment: &Moment<'_>) -> Option<Action> {
        if moment.under_way != UnderWay::Nothing {
            return None;
        }
        let config = moment.config;
        let mut waiting = self.replicas.iter().filter_map(|r| match r.stage {
            Stage::Waits { since_s } => Some((r, since_s)),
            _ => None,
        });
        let (first, mut since_s) = waiting.next()?;
        let (mut count, mut eof) = (1, first.said.eof);
        for (replica, s) in waiting.filter(|(r, _)| r.said.parts == first.said.parts) {
            count += 1;
            eof &= replica.said.eof;
            since_s = since_s.min(s);
        }
        let most = config.repl_diskless_sync_max_replicas;
        let due = !config.repl_diskless_sync
            || (most > 0 && count >= most)
            || moment.now_s.saturating_sub(since_s) >= config.repl_diskless_sync_delay;
        due.then(|| begin(&first.said, eof, config))
    }
}

fn begin(said: &Announced, eof: bool, config: &Config) -> Action {
    // What leaves something out must not replace the file of the data.
    let streamed = (config.repl_diskless_sync || said.parts.are_some()) && eof;
    log::info!(
        "Starting BGSAVE for SYNC with target: {}",
        if streamed { "replicas sockets" } else { "disk" }
    );
    Action::Begin(Plan {
        streamed,
        parts: said.parts,
    })
}

/// Tells the log why a replica gets more than it asked for.
fn explain(why: Refusal, name: &str, id: &[u8], from: i64, history: &History) {
    match why {
        _ if id.starts_with(b"?") => log::info!("Full resync requested by replica {name}"),
        Refusal::OtherStream => log::info!(
            "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{}', my replication IDs are '{}' and '{}')",
            String::from_utf8_lossy(id),
            history.id(),
            history.id2()
        ),
        Refusal::BeyondFork => log::info!(
            "Partial resynchronization not accepted: Requested offset for second ID was {from}, but I can reply up to {}",
            history.second_offset()
        ),
        Refusal::NotHeld => {
            log::info!(
                "Unable to partial resync with replica {name} for lack of backlog (Replica request was: {from})."
            );
            if from > history.offset() {
                log::warn!(
                    "Warning: replica {name} tried to PSYNC with an offset that is greater than the master replication offset."
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
