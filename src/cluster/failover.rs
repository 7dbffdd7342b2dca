//! A replica takes its master's place.
//!
//! ```text
//! the master has FAILed ─▶ a delay: 500 ms, some chance, a second for each replica that has more data
//!                       ─▶ a new epoch: FAILOVER_AUTH_REQUEST to all
//!                       ─▶ votes from most masters ─▶ the slots are ours, with that epoch: PONG to all
//!
//! by hand:  CLUSTER FAILOVER ─▶ MFSTART to the master, which holds its clients and says how far it is
//!                            ─▶ we are as far ─▶ votes, though the master is up ─▶ as above
//! ```
//! A master gives one vote in an epoch, and for the replicas of one master not again for two node timeouts; it writes that
//! down before it answers.
//!
//! A master may also lose all its replicas while others have several: then one of those moves to it.

use super::links::ConnId;
use super::node::{Flags, Id};
use super::state::{Action, Cluster, Todo};
use super::wire::{Body, FORCE_ACK, Header, Kind, encode};
use crate::base::level::Level;
use crate::base::planted::{self, Bug};

/// How long a manual failover may take; the master holds its clients for twice as long.
const MANUAL_MS: i64 = 5000;
const PAUSE_TIMES: i64 = 2;
/// An election: its delay, the part of chance in that, and what each better replica adds.
const DELAY_MS: i64 = 500;
const CHANCE_MS: u64 = 500;
const RANK_MS: i64 = 1000;
/// Votes are waited for twice the node timeout, and so long at least; twice as long later there may be another election.
const VOTES_MS_MIN: i64 = 2000;
/// Why there is no failover is not said before the master is down for the node timeout and so long, and not more often.
const SILENT_MS: i64 = 5000;
const RELOG_MS: i64 = 10_000;
/// A master is an orphan for so long before a replica moves to it.
const ORPHAN_MS: i64 = 5000;

/// Why a replica can't take its master's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum WhyNot {
    #[default]
    Nothing,
    DataAge,
    Delay,
    Expired,
    Votes,
}

/// The election that we stand in, or stood in last.
#[derive(Clone, Debug, Default)]
pub(super) struct Election {
    /// When it begins.
    at_ms: i64,
    votes: usize,
    /// The others were asked.
    asked: bool,
    rank: usize,
    epoch: u64,
    why_not: WhyNot,
    logged_ms: i64,
}

impl Election {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// A failover by hand.
#[derive(Clone, Debug, Default)]
pub(super) struct Manual {
    /// When it is given up; 0: there is none.
    pub until_ms: i64,
    /// Of a master: the replica that is to take its place.
    pub replica: Option<Id>,
    /// Of a replica: how far the master is, which holds its clients.
    master_offset: Option<i64>,
    can_start: bool,
}

impl Cluster {
    /// Ends a manual failover, however it went.
    pub(super) fn reset_manual(&mut self) {
        let before = std::mem::take(&mut self.manual);
        if before.replica.is_some() {
            self.out.push(Action::PauseWrites(None));
        }
    }

    pub(super) fn check_manual_timeout(&mut self) {
        if self.manual.until_ms != 0 && self.manual.until_ms < self.now_ms {
            self.log(Level::Warning, "Manual failover timed out.");
            self.reset_manual();
        }
    }

    /// CLUSTER FAILOVER, its conditions being met: asks the master to hold its clients.
    pub(super) fn begin_manual(&mut self, how: super::orders::How) {
        use super::orders::How;
        self.reset_manual();
        self.manual.until_ms = self.now_ms + MANUAL_MS;
        match how {
            How::Takeover => {
                self.log(Level::Notice, "Taking over the master (user request).");
                self.bump_epoch();
                self.replace_master();
            }
            How::Force => {
                self.log(Level::Notice, "Forced failover user request accepted.");
                self.manual.can_start = true;
            }
            How::Agreed => {
                self.log(Level::Notice, "Manual failover user request accepted.");
                if let Some(link) = self.my_master().and_then(|master| master.link) {
                    let message = encode(Kind::ManualStart, &self.header(), &Body::Other);
                    self.send(link, Kind::ManualStart, message.into());
                }
            }
        }
    }

    /// A replica wants to take our place: clients are held, and it hears at once how far we are.
    pub(super) fn hear_manual_start(&mut self, conn: ConnId, sender: Id) {
        if self
            .node(sender)
            .is_none_or(|node| node.master != Some(self.me))
        {
            return;
        }
        self.reset_manual();
        self.manual.until_ms = self.now_ms + MANUAL_MS;
        self.manual.replica = Some(sender);
        let until_ms = self.now_ms + MANUAL_MS * PAUSE_TIMES;
        self.out.push(Action::PauseWrites(Some(until_ms)));
        let text = format!("Manual failover requested by replica {}.", self.who(sender));
        self.log(Level::Notice, text);
        self.send_ping(conn, Kind::Ping);
    }

    /// A master says how far it is, and that it holds its clients.
    pub(super) fn hear_paused_master(&mut self, id: Id, offset: i64) {
        let me = self.myself();
        let is_ours = me.is_replica() && me.master == Some(id);
        if !is_ours || self.manual.until_ms == 0 || self.manual.master_offset.is_some() {
            return;
        }
        self.manual.master_offset = Some(offset);
        let text =
            format!("Received replication offset for paused master manual failover: {offset}");
        self.log(Level::Notice, text);
        self.do_later(Todo::MANUAL);
    }

    /// Are we as far as the master that waits for us?
    pub(super) fn manual_step(&mut self) {
        let manual = &self.manual;
        let Some(offset) = manual.master_offset else {
            return;
        };
        if manual.until_ms == 0 || manual.can_start {
            return;
        }
        if offset == self.facts.offset || planted::on(Bug::ManualTooEarly) {
            self.manual.can_start = true;
            let text = "All master replication stream processed, manual failover can start.";
            self.log(Level::Notice, text);
            self.do_later(Todo::FAILOVER);
        } else {
            self.do_later(Todo::MANUAL);
        }
    }

    /// One step of a replica towards its master's place, if that is called for.
    pub(super) fn failover_step(&mut self) {
        let by_hand = self.manual.until_ms != 0 && self.manual.can_start;
        // (Redis does nothing at all while it loads.)
        let has_data = !self.facts.is_loading || planted::on(Bug::StandsWithoutData);
        let is_called_for = (self.myself().is_replica() && has_data)
            && self.my_master().is_some_and(|m| {
                let by_itself = m.has_failed() && !self.settings.replica_no_failover;
                (by_itself || by_hand) && !m.slots.is_empty()
            });
        if !is_called_for {
            self.election.why_not = WhyNot::Nothing;
            return;
        }
        if !by_hand && self.is_stale() {
            return self.tell_why_not(WhyNot::DataAge);
        }
        let votes_ms = (self.settings.node_timeout_ms * 2).max(VOTES_MS_MIN);
        let age_ms = self.now_ms - self.election.at_ms;
        if age_ms > votes_ms * 2 {
            return self.schedule_election();
        }
        if !self.election.asked && self.manual.until_ms == 0 {
            self.update_rank();
        }
        if self.now_ms < self.election.at_ms {
            return self.tell_why_not(WhyNot::Delay);
        }
        if age_ms > votes_ms {
            return self.tell_why_not(WhyNot::Expired);
        }
        if !self.election.asked {
            return self.ask_for_votes();
        }
        let needed = self.quorum() - usize::from(planted::on(Bug::OneVoteLess));
        if self.election.votes < needed {
            return self.tell_why_not(WhyNot::Votes);
        }
        self.log(Level::Notice, "Failover election won: I'm the new master.");
        let epoch = self.election.epoch;
        if let Some(me) = self.me_mut()
            && me.config_epoch < epoch
        {
            me.config_epoch = epoch;
            let text = format!("configEpoch set to {epoch} after successful failover");
            self.log(Level::Notice, text);
        }
        // These votes were for this once. Counted again, should this node have to follow another one soon, they would make a
        // second master of the slots for a moment. (Redis counts them.)
        (self.election.votes, self.election.asked) = (0, false);
        // Its own vote was for itself: it gives nobody else one in this epoch. (Redis does, if the other has not heard yet
        // that this epoch is won.)
        self.voted_epoch = self.voted_epoch.max(epoch);
        self.replace_master();
    }

    /// Our data is too old (`cluster-replica-validity-factor`). That the master is down for the node timeout is no fault of
    /// ours.
    fn is_stale(&self) -> bool {
        let settings = &self.settings;
        let mut age_ms = self.facts.data_age_ms;
        if age_ms > settings.node_timeout_ms {
            age_ms -= settings.node_timeout_ms;
        }
        let most_ms = (settings.node_timeout_ms)
            .saturating_mul(settings.validity_factor)
            .saturating_add(settings.repl_ping_period_s.saturating_mul(1000));
        settings.validity_factor != 0 && age_ms > most_ms && !planted::on(Bug::OldDataStands)
    }

    fn schedule_election(&mut self) {
        let (now_ms, by_hand) = (self.now_ms, self.manual.until_ms != 0);
        let rank = if by_hand { 0 } else { self.rank() };
        let chance_ms = self.rng.below(CHANCE_MS) as i64;
        let delay_ms = match by_hand {
            true => 0,
            false => DELAY_MS + chance_ms + rank as i64 * RANK_MS,
        };
        let election = &mut self.election;
        election.at_ms = now_ms + delay_ms;
        election.rank = rank;
        (election.votes, election.asked) = (0, false);
        if by_hand {
            self.do_later(Todo::FAILOVER);
        }
        let text = format!(
            "Start of election delayed for {delay_ms} milliseconds (rank #{rank}, offset {}).",
            self.facts.offset
        );
        self.log(Level::Notice, text);
        // The other replicas hear how far we are: who has less waits longer.
        self.broadcast_pong(true);
    }

    /// How many other replicas of our master have more data.
    fn rank(&self) -> usize {
        let siblings = self.my_master().map_or(&[][..], |master| &master.replicas);
        let is_better = |id: &&Id| {
            let node = self.nodes.get(id).filter(|n| n.id != self.me);
            node.is_some_and(|n| !n.flags.has(Flags::NOFAILOVER) && n.offset > self.facts.offset)
        };
        siblings.iter().filter(is_better).count()
    }

    fn update_rank(&mut self) {
        let rank = self.rank();
        let before = self.election.rank;
        if rank <= before {
            return;
        }
        let added_ms = (rank - before) as i64 * RANK_MS;
        self.election.rank = rank;
        self.election.at_ms += added_ms;
        let text =
            format!("Replica rank updated to #{rank}, added {added_ms} milliseconds of delay.");
        self.log(Level::Notice, text);
    }

    fn ask_for_votes(&mut self) {
        self.current_epoch = self.current_epoch.saturating_add(1);
        let epoch = self.current_epoch;
        self.election.epoch = epoch;
        self.election.asked = true;
        let text = format!("Starting a failover election for epoch {epoch}.");
        self.log(Level::Notice, text);
        let mut header = self.header();
        if self.manual.until_ms != 0 {
            header.marks |= FORCE_ACK;
        }
        let message = encode(Kind::AuthRequest, &header, &Body::Other).into();
        self.broadcast(Kind::AuthRequest, &message);
        self.do_later(Todo::SAVE.and(Todo::JUDGE).and(Todo::SURE));
    }

    /// A replica asks for our vote.
    pub(super) fn hear_vote_request(&mut self, sender: Id, request: &Header) {
        let me = self.myself();
        if me.is_replica() || me.slots.is_empty() {
            return;
        }
        if let Some(why) = self.why_no_vote(sender, request) {
            let text = format!("Failover auth denied to {}{why}", self.who(sender));
            return self.log(Level::Warning, text);
        }
        let (epoch, now_ms) = (self.current_epoch, self.now_ms);
        self.voted_epoch = epoch;
        let Some((master, link)) = self.node(sender).map(|node| (node.master, node.link)) else {
            return;
        };
        if let Some(master) = master.and_then(|id| self.nodes.get_mut(&id)) {
            master.voted_ms = now_ms;
        }
        if !planted::on(Bug::VoteNotSaved) {
            self.do_later(Todo::SAVE.and(Todo::SURE));
        }
        if let Some(link) = link {
            let message = encode(Kind::AuthAck, &self.header(), &Body::Other);
            self.send(link, Kind::AuthAck, message.into());
        }
        let text = format!(
            "Failover auth granted to {} for epoch {epoch}",
            self.who(sender)
        );
        self.log(Level::Notice, text);
    }

    /// Why it does not get our vote, in the words of the log.
    fn why_no_vote(&self, sender: Id, request: &Header) -> Option<String> {
        let (asked, current) = (request.current_epoch, self.current_epoch);
        if asked < current {
            return Some(format!(": reqEpoch ({asked}) < curEpoch({current})"));
        }
        if self.voted_epoch == current {
            return Some(format!(": already voted for epoch {current}"));
        }
        let node = self.node(sender)?;
        if node.is_master() {
            return Some(": it is a master node".into());
        }
        let Some(master) = node.master.and_then(|id| self.node(id)) else {
            return Some(": I don't know its master".into());
        };
        if !master.has_failed() && request.marks & FORCE_ACK == 0 {
            return Some(": its master is up".into());
        }
        let left_ms = self.settings.node_timeout_ms * 2 - (self.now_ms - master.voted_ms);
        if left_ms > 0 {
            return Some(format!(
                ": can't vote about this master before {left_ms} milliseconds"
            ));
        }
        request.slots.iter().find_map(|slot| {
            let owner = self.owner(slot).filter(|_| !self.unclaimed.has(slot))?;
            let (has, asked) = (owner.config_epoch, request.config_epoch);
            (has > asked).then(|| format!(": slot {slot} epoch ({has}) > reqEpoch ({asked})"))
        })
    }

    /// A master has given us its vote.
    pub(super) fn hear_vote(&mut self, sender: Id, header: &Header) {
        let counts = |node: &super::Node| node.is_master() && !node.slots.is_empty();
        if self.node(sender).is_some_and(counts) && header.current_epoch >= self.election.epoch {
            self.election.votes += 1;
            self.do_later(Todo::FAILOVER);
        }
    }

    /// We are a master with our master's slots from now on, and tell all. (The epoch for it is ours already.)
    fn replace_master(&mut self) {
        let me = self.myself();
        let Some(before) = me.master.filter(|_| me.is_replica()) else {
            return;
        };
        self.be_master(self.me);
        self.out.push(Action::Lead);
        let slots = self.node(before).map(|node| node.slots.clone());
        for slot in slots.unwrap_or_default().iter() {
            self.take_slot(slot);
            self.give_slot(slot, self.me);
        }
        self.judge();
        self.do_later(Todo::SAVE.and(Todo::SURE));
        self.broadcast_pong(false);
        self.reset_manual();
    }

    /// Says why there is no failover, if it has been long and was not said of late.
    fn tell_why_not(&mut self, why: WhyNot) {
        let is_same = why == self.election.why_not;
        if is_same && self.now_ms - self.election.logged_ms < RELOG_MS {
            return;
        }
        self.election.why_not = why;
        let silent_ms = self.settings.node_timeout_ms + SILENT_MS;
        let is_fresh = |m: &super::Node| m.has_failed() && self.now_ms - m.failed_ms < silent_ms;
        if self.my_master().is_some_and(is_fresh) {
            return;
        }
        let text = match why {
            WhyNot::Nothing => "Unknown reason code.",
            WhyNot::DataAge => {
                "Disconnected from master for longer than allowed. Please check the 'cluster-replica-validity-factor' configuration option."
            }
            WhyNot::Delay => "Waiting the delay before I can start a new failover.",
            WhyNot::Expired => "Failover attempt expired.",
            WhyNot::Votes => "Waiting for votes, but majority still not reached.",
        };
        self.election.logged_ms = self.now_ms;
        self.log(
            Level::Notice,
            format!("Currently unable to failover: {text}"),
        );
        if matches!(why, WhyNot::Votes | WhyNot::Expired) {
            let (quorum, votes) = (self.quorum(), self.election.votes);
            let text = format!("Needed quorum: {quorum}. Number of votes received so far: {votes}");
            self.log(Level::Notice, text);
        }
    }

    /// How many replicas of a master have not failed.
    pub(super) fn count_well(&self, master: Id) -> usize {
        let replicas = self.nodes.get(&master).map_or(&[][..], |m| &m.replicas);
        let is_well = |id: &&Id| self.nodes.get(id).is_some_and(|n| !n.has_failed());
        replicas.iter().filter(is_well).count()
    }

    /// Moves to a master that has lost all its replicas, if it is upon us: of the replicas of those masters that have `most`
    /// of them, the one with the smallest name goes.
    pub(super) fn move_to_orphan(&mut self, most: usize) {
        let Some(master) = self.my_master().filter(|_| self.is_ok) else {
            return;
        };
        let down = Flags::FAIL.or(Flags::PFAIL);
        let is_well = |id: &&Id| self.nodes.get(id).is_some_and(|n| !n.flags.has(down));
        if master.replicas.iter().filter(is_well).count() <= self.settings.migration_barrier {
            return;
        }
        let (mut target, mut candidate) = (None, self.myself().name);
        let now_ms = self.now_ms;
        let ids: Vec<Id> = self.nodes.keys().copied().collect();
        for id in ids {
            let well = self.count_well(id);
            let names = self
                .replicas_of(id)
                .into_iter()
                .filter_map(|id| self.nodes.get(&id));
            let least = names.map(|node| node.name).min();
            let Some(node) = self.nodes.get_mut(&id) else {
                continue;
            };
            let attracts = node.flags.has(Flags::MIGRATE_TO) && !node.has_failed();
            if attracts && node.is_master() && well == 0 {
                if node.orphaned_ms == 0 {
                    node.orphaned_ms = now_ms;
                }
                if target.is_none() && !node.slots.is_empty() {
                    target = Some((id, node.name, node.orphaned_ms));
                }
            } else {
                node.orphaned_ms = 0;
            }
            if well == most {
                candidate = least.map_or(candidate, |least| candidate.min(least));
            }
        }
        if let Some((id, name, since_ms)) = target
            && candidate == self.myself().name
            && now_ms - since_ms > ORPHAN_MS
        {
            self.log(
                Level::Notice,
                format!("Migrating to orphaned master {name}"),
            );
            self.follow(id);
        }
    }
}
