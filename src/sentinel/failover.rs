//! From a dead master to a new one.
//!
//! ```text
//! None ─ ODOWN, or SENTINEL FAILOVER ─▶ WaitStart ─ elected ─▶ SelectReplica ─▶ SendNoOne ─ REPLICAOF NO ONE ─▶ WaitPromotion
//!  ▲                                        │                       │               │                              │
//!  ├── not elected, none is good, no answer in time ◀───────────────┴───────────────┴──────────────────────────────┤
//!  │                                                                                          INFO says "master"   ▼
//!  └──────────── the old master is a replica of the new one ◀── UpdateConfig ◀── all follow it ── ReconfReplicas
//! ```
//! The leader is elected as in Raft: each attempt is a new epoch, each Sentinel has one vote an epoch, given to the first who
//! asks, and whoever has the votes of most of all Sentinels that are known (and of as many as the quorum says) leads. A vote
//! is on the disk before it is told ([`Action::Persist`](super::Action)), or a restart in between could give it twice. The
//! winner's epoch becomes the master's config epoch, which makes its view win everywhere.
//!
//! Once the promoted replica says that it is a master there is no way back: what is left is only a matter of time.

use super::instance::{Id, Instance, Reconf, Reported};
use super::state::{Action, Sentinel};
use super::wire::Question;
use crate::base::level::Level;
use crate::base::time::LocalTime;
use crate::resp::value::Value;

/// A failover begins, and one that is not ours is waited for, up to so much later: at random.
const DESYNC_MAX_MS: u64 = 1000;

/// Where a failover is, in the order of the stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    None,
    WaitStart,
    SelectReplica,
    SendNoOne,
    WaitPromotion,
    ReconfReplicas,
    UpdateConfig,
}

impl Stage {
    /// Its name in SENTINEL MASTER.
    pub fn name(self) -> &'static str {
        match self {
            Stage::None => "none",
            Stage::WaitStart => "wait_start",
            Stage::SelectReplica => "select_slave",
            Stage::SendNoOne => "send_slaveof_noone",
            Stage::WaitPromotion => "wait_promotion",
            Stage::ReconfReplicas => "reconf_slaves",
            Stage::UpdateConfig => "update_config",
        }
    }
}

impl Sentinel {
    /// Gives our vote for an epoch, if it is not given yet, to the one who wants it. Who has our last vote, and for which
    /// epoch.
    pub fn vote(&mut self, master: Id, epoch: u64, wanted: &str) -> (Option<String>, u64) {
        self.note_epoch(master, epoch);
        let current = self.current_epoch;
        let now_ms = self.now_ms;
        let Some(instance) = self.get_mut(master) else {
            return (None, 0);
        };
        if instance.leader_epoch < epoch && current <= epoch {
            instance.leader = Some(wanted.to_string());
            instance.leader_epoch = current;
            self.persist();
            let text = format!("{wanted} {current}");
            self.event_of(Level::Warning, "+vote-for-leader", Some(master), text);
            if !wanted.eq_ignore_ascii_case(&self.myid) {
                // The other has its time to do it.
                let later_ms = self.rng.below(DESYNC_MAX_MS) as i64;
                if let Some(instance) = self.get_mut(master) {
                    instance.watched.failover_start_ms = now_ms + later_ms;
                }
            }
        }
        let instance = self.get(master);
        instance.map_or((None, 0), |i| (i.leader.clone(), i.leader_epoch))
    }

    /// Another Sentinel says whether a master is down, and whom it votes for.
    pub(super) fn vote_came(&mut self, id: Id, value: &Value) {
        let Value::Array(parts) = value else {
            return;
        };
        let [Value::Int(down), Value::Bulk(leader), Value::Int(epoch)] = parts.as_slice() else {
            return;
        };
        let (now_ms, epoch) = (self.now_ms, *epoch as u64);
        let Some(instance) = self.get_mut(id) else {
            return;
        };
        instance.sentinel.last_reply_ms = now_ms;
        instance.sentinel.says_down = *down == 1;
        if leader == b"*" {
            return;
        }
        let leader = String::from_utf8_lossy(leader).into_owned();
        let is_new = instance.leader_epoch != epoch;
        let text = format!("{} voted for {leader} {epoch}", instance.name);
        instance.leader = Some(leader);
        instance.leader_epoch = epoch;
        if is_new {
            self.log(Level::Notice, text);
        }
    }

    /// Who leads in this epoch, as far as the votes that we know say. Ours is given now, if it was not.
    pub(super) fn leader(&mut self, master: Id, epoch: u64) -> Option<String> {
        let others = self.sentinels_of(master);
        let voters = others.len() + 1;
        let mut votes: Vec<(String, usize)> = Vec::new();
        let mut count = |who: &str| match votes.iter_mut().find(|(id, _)| id == who) {
            Some((_, n)) => *n += 1,
            None => votes.push((who.to_string(), 1)),
        };
        for other in others.into_iter().filter_map(|id| self.get(id)) {
            if let Some(leader) = &other.leader
                && other.leader_epoch == self.current_epoch
            {
                count(leader);
            }
        }
        let most = votes
            .iter()
            .max_by_key(|(_, n)| *n)
            .map(|(who, _)| who.clone());
        let wanted = most.unwrap_or_else(|| self.myid.clone());
        let (ours, ours_epoch) = self.vote(master, epoch, &wanted);
        if let Some(ours) = ours.filter(|_| ours_epoch == epoch) {
            match votes.iter_mut().find(|(id, _)| *id == ours) {
                Some((_, n)) => *n += 1,
                None => votes.push((ours, 1)),
            }
        }
        let quorum = self.get(master).map_or(0, |m| m.watched.quorum) as usize;
        let needed = (voters / 2 + 1).max(quorum);
        let (who, most) = votes.into_iter().max_by_key(|(_, n)| *n)?;
        (most >= needed).then_some(who)
    }

    /// Begins a failover, in a new epoch.
    pub fn start_failover(&mut self, master: Id) {
        let now_ms = self.now_ms;
        self.current_epoch += 1;
        let epoch = self.current_epoch;
        self.tell_epoch(master);
        self.event(Level::Warning, "+try-failover", master, "");
        let later_ms = self.rng.below(DESYNC_MAX_MS) as i64;
        if let Some(instance) = self.get_mut(master) {
            instance.watched.stage = Stage::WaitStart;
            instance.watched.failover_epoch = epoch;
            instance.watched.failover_start_ms = now_ms + later_ms;
            instance.watched.stage_changed_ms = now_ms;
        }
    }

    /// The administrator wants a failover: nobody is asked.
    pub fn force_failover(&mut self, master: Id) {
        self.start_failover(master);
        if let Some(instance) = self.get_mut(master) {
            instance.watched.is_forced = true;
        }
    }

    /// Begins a failover if the master is down and none was tried lately, by us or by whom we voted for.
    pub(super) fn start_failover_if_needed(&mut self, master: Id) -> bool {
        let now_ms = self.now_ms;
        let Some(instance) = self.get_mut(master) else {
            return false;
        };
        if !instance.watched.o_down || instance.in_failover() {
            return false;
        }
        let watched = &mut instance.watched;
        let start_ms = watched.failover_start_ms;
        let pause_ms = watched.failover_timeout_ms.saturating_mul(2);
        if now_ms - start_ms < pause_ms {
            if watched.delay_logged_ms != start_ms {
                watched.delay_logged_ms = start_ms;
                let until_ms = start_ms.saturating_add(pause_ms);
                let until = LocalTime::at(u64::try_from(until_ms).unwrap_or(0) * 1000).ctime();
                self.log(
                    Level::Notice,
                    format!("Next failover delay: I will not start a failover before {until}"),
                );
            }
            return false;
        }
        self.start_failover(master);
        true
    }

    /// The replica to be promoted: of those that are well and not too far behind, the one with the lowest priority, then
    /// with most of the data, then with the smallest run ID.
    pub fn select_replica(&self, master: Id) -> Option<Id> {
        let of = self.get(master)?;
        let mut down_ms_max = of.down_after_ms.saturating_mul(10);
        let mut info_ms_max = self.periods.info * 3;
        if of.s_down {
            down_ms_max += self.now_ms - of.s_down_since_ms;
            info_ms_max = self.periods.ping * 5;
        }
        let is_good = |replica: &&Instance| {
            let Some(link) = self.link_of(replica) else {
                return false;
            };
            !replica.s_down
                && !link.disconnected
                && self.now_ms - link.avail_ms <= self.periods.ping * 5
                && replica.replica.priority != 0
                && self.now_ms - replica.info_ms <= info_ms_max
                && replica.replica.link_down_ms <= down_ms_max
        };
        let all = self.replicas_of(master);
        let good = all.iter().filter_map(|id| self.get(*id)).filter(is_good);
        let best = good.min_by_key(|replica| {
            let runid = replica.runid.as_ref().map(|id| id.to_ascii_lowercase());
            (
                replica.replica.priority,
                std::cmp::Reverse(replica.replica.offset),
                runid.is_none(),
                runid,
            )
        });
        best.map(|replica| replica.id)
    }

    /// Goes on with a failover.
    pub(super) fn failover_step(&mut self, master: Id) {
        match self.get(master).map(|m| m.watched.stage) {
            Some(Stage::WaitStart) => self.wait_start(master),
            Some(Stage::SelectReplica) => self.promote_best(master),
            Some(Stage::SendNoOne) => self.send_no_one(master),
            Some(Stage::WaitPromotion) => self.give_up_late(master),
            Some(Stage::ReconfReplicas) => self.reconf_next(master),
            _ => {}
        }
    }

    fn enter(&mut self, master: Id, stage: Stage) {
        let now_ms = self.now_ms;
        if let Some(instance) = self.get_mut(master) {
            instance.watched.stage = stage;
            instance.watched.stage_changed_ms = now_ms;
        }
    }

    /// Ends a failover that has changed nothing yet.
    fn abort(&mut self, master: Id, channel: &'static str) {
        self.event(Level::Warning, channel, master, "");
        self.enter(master, Stage::None);
        let Some(instance) = self.get_mut(master) else {
            return;
        };
        instance.watched.is_forced = false;
        if let Some(promoted) = instance.watched.promoted.take()
            && let Some(replica) = self.get_mut(promoted)
        {
            replica.replica.is_promoted = false;
        }
    }

    fn wait_start(&mut self, master: Id) {
        let Some(watched) = self.get(master).map(|m| &m.watched) else {
            return;
        };
        let (is_forced, epoch) = (watched.is_forced, watched.failover_epoch);
        let (start_ms, timeout_ms) = (watched.failover_start_ms, watched.failover_timeout_ms);
        let leader = self.leader(master, epoch);
        let is_ours = leader.is_some_and(|id| id.eq_ignore_ascii_case(&self.myid));
        if !is_ours && !is_forced {
            let patience_ms = self.periods.election_timeout.min(timeout_ms);
            if self.now_ms - start_ms > patience_ms {
                self.abort(master, "-failover-abort-not-elected");
            }
            return;
        }
        self.event(Level::Warning, "+elected-leader", master, "");
        if self.crash_after_election {
            self.out.push(Action::Crash);
        }
        self.enter(master, Stage::SelectReplica);
        self.event(Level::Warning, "+failover-state-select-slave", master, "");
    }

    fn promote_best(&mut self, master: Id) {
        let Some(best) = self.select_replica(master) else {
            return self.abort(master, "-failover-abort-no-good-slave");
        };
        self.event(Level::Warning, "+selected-slave", best, "");
        if let Some(replica) = self.get_mut(best) {
            replica.replica.is_promoted = true;
        }
        if let Some(instance) = self.get_mut(master) {
            instance.watched.promoted = Some(best);
        }
        self.enter(master, Stage::SendNoOne);
        self.event(
            Level::Notice,
            "+failover-state-send-slaveof-noone",
            best,
            "",
        );
    }

    /// True if this stage has lasted too long.
    fn is_late(&self, master: Id) -> bool {
        let watched = self.get(master).map(|m| &m.watched);
        watched.is_some_and(|w| self.now_ms - w.stage_changed_ms > w.failover_timeout_ms)
    }

    fn give_up_late(&mut self, master: Id) {
        if self.is_late(master) {
            self.abort(master, "-failover-abort-slave-timeout");
        }
    }

    fn send_no_one(&mut self, master: Id) {
        let promoted = self.get(master).and_then(|m| m.watched.promoted);
        // (It may be gone after a SENTINEL RESET of its master; then there is nothing to wait for but the timeout.)
        let Some(promoted) = promoted.filter(|id| !self.is_disconnected(*id)) else {
            return self.give_up_late(master);
        };
        if self.send_replicaof(promoted, None) {
            let channel = "+failover-state-wait-promotion";
            self.event(Level::Notice, channel, promoted, "");
            self.enter(master, Stage::WaitPromotion);
        }
    }

    /// The promoted replica says that it is a master: from here on it is the one, and all shall know.
    pub(super) fn promotion_seen(&mut self, replica: Id, master: Id) {
        let Some(instance) = self.get_mut(master) else {
            return;
        };
        instance.watched.config_epoch = instance.watched.failover_epoch;
        self.enter(master, Stage::ReconfReplicas);
        self.persist();
        self.event(Level::Warning, "+promoted-slave", replica, "");
        if self.crash_after_promotion {
            self.out.push(Action::Crash);
        }
        let channel = "+failover-state-reconf-slaves";
        self.event(Level::Warning, channel, master, "");
        if let (Some(from), Some(to)) = (self.get(master), self.get(replica)) {
            let (from, to) = (from.addr.clone(), to.addr.clone());
            self.call_reconfig_script(master, "leader", &from, &to);
        }
        self.hurry_hello(master);
    }

    /// Tells an instance to follow the place where this other is, or to be a master. The rest of the transaction has it
    /// remember that, and sends its clients away, so that they ask again where the master is.
    pub(super) fn send_replicaof(&mut self, id: Id, whom: Option<Id>) -> bool {
        let (host, port) = match whom {
            None => ("NO".to_string(), "ONE".to_string()),
            Some(whom) => {
                let Some(instance) = self.get(whom) else {
                    return false;
                };
                let addr = &instance.addr;
                (self.announced(addr).to_string(), addr.port.to_string())
            }
        };
        let Some(conn) = self.commands_of(id) else {
            return false;
        };
        let commands: [&[&[u8]]; 6] = [
            &[b"MULTI"],
            &[b"SLAVEOF", host.as_bytes(), port.as_bytes()],
            &[b"CONFIG", b"REWRITE"],
            &[b"CLIENT", b"KILL", b"TYPE", b"normal"],
            &[b"CLIENT", b"KILL", b"TYPE", b"pubsub"],
            &[b"EXEC"],
        ];
        for argv in commands {
            self.ask(conn, id, Question::Told, argv);
        }
        true
    }

    /// Tells the next replicas to follow the new master, as many at a time as `parallel-syncs` says.
    fn reconf_next(&mut self, master: Id) {
        let now_ms = self.now_ms;
        let all = self.replicas_of(master);
        let Some(watched) = self.get(master).map(|m| &m.watched) else {
            return;
        };
        let (at_once, Some(promoted)) = (watched.parallel_syncs, watched.promoted) else {
            return;
        };
        let is_busy = |r: &Instance| matches!(r.replica.reconf, Reconf::Sent | Reconf::InProgress);
        let busy = all
            .iter()
            .filter_map(|id| self.get(*id))
            .filter(|r| is_busy(r));
        let mut busy = busy.count() as i64;
        for id in all {
            if busy >= at_once {
                break;
            }
            let Some(replica) = self.get(id) else {
                continue;
            };
            if replica.replica.is_promoted || replica.replica.reconf == Reconf::Done {
                continue;
            }
            let sent_ms = replica.replica.reconf_sent_ms;
            if replica.replica.reconf == Reconf::Sent
                && now_ms - sent_ms > self.periods.slave_reconf_timeout
            {
                self.event(Level::Notice, "-slave-reconf-sent-timeout", id, "");
                self.set_reconf(id, Reconf::Done);
            }
            if self.get(id).is_none_or(is_busy) || self.is_disconnected(id) {
                continue;
            }
            if self.send_replicaof(id, Some(promoted)) {
                self.set_reconf(id, Reconf::Sent);
                self.event(Level::Notice, "+slave-reconf-sent", id, "");
                busy += 1;
            }
        }
        self.see_whether_all_follow(master);
    }

    fn set_reconf(&mut self, id: Id, reconf: Reconf) {
        let now_ms = self.now_ms;
        if let Some(replica) = self.get_mut(id) {
            replica.replica.reconf = reconf;
            if reconf == Reconf::Sent {
                replica.replica.reconf_sent_ms = now_ms;
            }
        }
    }

    /// The failover is over when all replicas that can be reached follow the new master, or the time is.
    fn see_whether_all_follow(&mut self, master: Id) {
        let promoted = self.get(master).and_then(|m| m.watched.promoted);
        if promoted
            .and_then(|id| self.get(id))
            .is_none_or(|p| p.s_down)
        {
            return;
        }
        let all = self.replicas_of(master);
        let is_left =
            |r: &&Instance| !r.replica.is_promoted && r.replica.reconf != Reconf::Done && !r.s_down;
        let left = all
            .iter()
            .filter_map(|id| self.get(*id))
            .filter(is_left)
            .count();
        let is_late = self.is_late(master);
        if is_late {
            self.event(Level::Warning, "+failover-end-for-timeout", master, "");
        }
        if left == 0 || is_late {
            self.event(Level::Warning, "+failover-end", master, "");
            self.enter(master, Stage::UpdateConfig);
        }
        if !is_late {
            return;
        }
        for id in all {
            let untold = |r: &Instance| {
                !r.replica.is_promoted && !matches!(r.replica.reconf, Reconf::Done | Reconf::Sent)
            };
            if self.get(id).is_some_and(untold)
                && !self.is_disconnected(id)
                && self.send_replicaof(id, promoted)
            {
                self.event(Level::Notice, "+slave-reconf-sent-be", id, "");
                self.set_reconf(id, Reconf::Sent);
            }
        }
    }

    /// The promoted replica is the master that is watched from now on.
    pub(super) fn switch_to_promoted(&mut self, master: Id) {
        let Some(instance) = self.get(master) else {
            return;
        };
        let promoted = instance.watched.promoted.and_then(|id| self.get(id));
        let addr = promoted.unwrap_or(instance).addr.clone();
        let host = self.announced(&addr).to_string();
        self.tell_switch(master, (&host, i64::from(addr.port)));
        self.switch_master(master, (&addr.host, i64::from(addr.port)));
    }

    /// The master of this name is elsewhere now; where it was, there is a replica, as soon as it comes back. `false` if the
    /// new place is not known.
    pub(super) fn switch_master(&mut self, master: Id, (host, port): (&str, i64)) -> bool {
        let Ok(addr) = self.make_addr(host, port, false) else {
            return false;
        };
        let Some(instance) = self.get(master) else {
            return false;
        };
        let quorum = instance.watched.quorum;
        let mut places: Vec<_> = (self.replicas_of(master).into_iter())
            .filter_map(|id| self.get(id))
            .map(|replica| replica.addr.clone())
            .filter(|place| !place.is(&addr))
            .collect();
        if !addr.is(&instance.addr) {
            places.push(instance.addr.clone());
        }
        self.reset(master, false);
        if let Some(instance) = self.get_mut(master) {
            instance.addr = addr;
            instance.watched.o_down_since_ms = 0;
            instance.s_down_since_ms = 0;
        }
        for place in places {
            let at = (place.host.as_str(), i64::from(place.port));
            if let Ok(id) = self.add(super::Kind::Replica, "", at, quorum, Some(master)) {
                self.event(Level::Notice, "+slave", id, "");
            }
        }
        self.persist();
        true
    }

    /// SENTINEL RESET: forgets all that was found out about a master, with its replicas and the other Sentinels.
    pub fn reset_master(&mut self, master: Id) {
        self.reset(master, true);
        self.event(Level::Warning, "+reset-master", master, "");
    }

    fn reset(&mut self, master: Id, with_sentinels: bool) {
        let now_ms = self.now_ms;
        for id in self.replicas_of(master) {
            self.remove(id);
        }
        if with_sentinels {
            for id in self.sentinels_of(master) {
                self.remove(id);
            }
        }
        let Some(instance) = self.get_mut(master) else {
            return;
        };
        instance.s_down = false;
        instance.script_kill_sent = false;
        instance.leader = None;
        instance.runid = None;
        instance.reported = Reported::Master;
        instance.reported_ms = now_ms;
        instance.replica.master_host = None;
        let watched = &mut instance.watched;
        watched.o_down = false;
        watched.has_rebooted = false;
        watched.is_forced = false;
        watched.stage = Stage::None;
        watched.stage_changed_ms = 0;
        watched.failover_start_ms = 0;
        watched.promoted = None;
        let link = instance.link;
        self.drop_connections(link);
        if let Some(link) = self.link_mut(master) {
            link.act_ping_ms = now_ms;
            link.last_ping_ms = 0;
            link.avail_ms = now_ms;
            link.last_pong_ms = now_ms;
        }
    }

    /// How many Sentinels of a master can be reached, ourselves among them, and of how many.
    pub fn reachable(&self, master: Id) -> (usize, usize) {
        let others = self.sentinels_of(master);
        let up = others
            .iter()
            .filter_map(|id| self.get(*id))
            .filter(|s| !s.s_down);
        (1 + up.count(), others.len() + 1)
    }
}
