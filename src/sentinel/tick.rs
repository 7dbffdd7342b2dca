//! What is done ten to twenty times a second, for every instance: connect what is not connected, ask what is due, judge
//! who is down; for every master, ask the others, and go on with a failover.
//!
//! The time between two ticks is drawn anew each time. Sentinels that were started together would otherwise ask for votes at
//! the same moment, again and again, and none would win.
//!
//! If much more time has passed since the last tick than should have, or less than none, either the clock was set or we did
//! not run: all answers would seem late. Then nothing is decided for a while (TILT), only watched.

use super::instance::{Id, Kind, Reported};
use super::state::Sentinel;
use super::wire::Question;
use super::{HELLO_CHANNEL, Instance};
use crate::base::level::Level;
use crate::sentinel::failover::Stage;

/// No more questions go out while so many have no answer.
const PENDING_MAX: i64 = 100;
/// Ticks a second, at least and less than twice that.
const TICKS_PER_SECOND: u64 = 10;

impl Sentinel {
    /// When [`Sentinel::tick`] is to be called next, unix time in ms.
    pub fn next_timeout(&self) -> i64 {
        self.next_tick_ms
    }

    /// See the head of the file.
    pub fn tick(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        self.check_tilt();
        let masters: Vec<Id> = self.masters.values().copied().collect();
        let mut promoted = None;
        for master in masters {
            self.handle(master);
            for id in self.replicas_of(master) {
                self.handle(id);
            }
            for id in self.sentinels_of(master) {
                self.handle(id);
            }
            if self
                .get(master)
                .is_some_and(|m| m.watched.stage == Stage::UpdateConfig)
            {
                promoted = Some(master);
            }
        }
        if let Some(master) = promoted {
            self.switch_to_promoted(master);
        }
        self.run_scripts();
        self.kill_slow_scripts();
        let per_second = TICKS_PER_SECOND + self.rng.below(TICKS_PER_SECOND);
        self.next_tick_ms = now_ms + (1000 / per_second) as i64;
    }

    fn check_tilt(&mut self) {
        let passed_ms = self.now_ms - self.ticked_ms;
        if passed_ms < 0 || passed_ms > self.periods.tilt_trigger {
            self.tilt_since_ms = Some(self.now_ms);
            let text = "#tilt mode entered".to_string();
            self.event_of(Level::Warning, "+tilt", None, text);
        }
        self.ticked_ms = self.now_ms;
    }

    fn handle(&mut self, id: Id) {
        self.reconnect(id);
        self.ask_what_is_due(id);
        if let Some(since_ms) = self.tilt_since_ms {
            if self.now_ms - since_ms < self.periods.tilt {
                return;
            }
            self.tilt_since_ms = None;
            let text = "#tilt mode exited".to_string();
            self.event_of(Level::Warning, "-tilt", None, text);
        }
        self.judge(id);
        if self.get(id).is_some_and(|i| i.kind == Kind::Master) {
            self.judge_with_others(id);
            if self.start_failover_if_needed(id) {
                self.ask_others(id, true);
            }
            self.failover_step(id);
            self.ask_others(id, false);
        }
    }

    /// Makes the connections that a link lacks. What is sent before they are up waits for them.
    fn reconnect(&mut self, id: Id) {
        let (now_ms, pause_ms) = (self.now_ms, self.periods.ping);
        let Some(instance) = self.get(id).filter(|i| i.addr.port != 0) else {
            return;
        };
        let listens = instance.kind != Kind::Sentinel;
        let Some(link) = self.link_mut(id) else {
            return;
        };
        if !link.disconnected || now_ms - link.last_reconnect_ms < pause_ms {
            return;
        }
        link.last_reconnect_ms = now_ms;
        let (commands, pubsub) = (link.commands, link.pubsub);
        if commands.is_none()
            && let Some(conn) = self.open(id, false)
        {
            if let Some(link) = self.link_mut(id) {
                link.commands = Some(conn);
                link.pending = 0;
                link.commands_since_ms = now_ms;
            }
            self.identify(id, conn);
            self.name_connection(id, conn, "cmd");
            self.ping(id);
        }
        if listens
            && pubsub.is_none()
            && let Some(conn) = self.open(id, true)
        {
            if let Some(link) = self.link_mut(id) {
                link.pubsub = Some(conn);
                link.pubsub_since_ms = now_ms;
            }
            self.identify(id, conn);
            self.name_connection(id, conn, "pubsub");
            self.say(conn, id, &[b"SUBSCRIBE", HELLO_CHANNEL.as_bytes()]);
        }
        if let Some(link) = self.link_mut(id)
            && link.commands.is_some()
            && (!listens || link.pubsub.is_some())
        {
            link.disconnected = false;
        }
    }

    fn ping(&mut self, id: Id) {
        let now_ms = self.now_ms;
        let Some(conn) = self.commands_of(id) else {
            return;
        };
        self.ask(conn, id, Question::Ping, &[b"PING"]);
        if let Some(link) = self.link_mut(id) {
            link.last_ping_ms = now_ms;
            // As long as an older one has no answer, we wait since then.
            if link.act_ping_ms == 0 {
                link.act_ping_ms = now_ms;
            }
        }
    }

    /// How often this instance is asked for INFO: often while it matters.
    fn info_period(&self, instance: &Instance) -> i64 {
        let master = instance.master.and_then(|id| self.get(id));
        let in_need = master.is_some_and(|m| m.watched.o_down || m.in_failover());
        match instance.kind {
            Kind::Replica if in_need || instance.replica.link_down_ms != 0 => 1000,
            _ => self.periods.info,
        }
    }

    fn ask_what_is_due(&mut self, id: Id) {
        let now_ms = self.now_ms;
        let Some(instance) = self.get(id) else {
            return;
        };
        let Some(link) = self.link_of(instance) else {
            return;
        };
        if link.disconnected || link.pending >= PENDING_MAX * i64::from(link.refs) {
            return;
        }
        let ping_period = instance.down_after_ms.min(self.periods.ping);
        let info_is_due = instance.kind != Kind::Sentinel
            && (instance.info_ms == 0 || now_ms - instance.info_ms > self.info_period(instance));
        let ping_is_due = now_ms - link.last_pong_ms > ping_period
            && now_ms - link.last_ping_ms > ping_period / 2;
        let hello_is_due = now_ms - instance.last_pub_ms > self.periods.publish;
        let commands = link.commands;
        if info_is_due && let Some(conn) = commands {
            self.ask(conn, id, Question::Info, &[b"INFO"]);
        }
        if ping_is_due {
            self.ping(id);
        }
        if hello_is_due {
            self.send_hello(id);
        }
    }

    /// Is it down, as far as we can see? (SDOWN)
    fn judge(&mut self, id: Id) {
        self.break_stale_connections(id);
        let now_ms = self.now_ms;
        let Some(instance) = self.get(id) else {
            return;
        };
        let Some(link) = self.link_of(instance) else {
            return;
        };
        let silent_ms = match link.act_ping_ms {
            0 if link.disconnected => now_ms - link.avail_ms,
            0 => 0,
            sent_ms => now_ms - sent_ms,
        };
        let is_master = instance.kind == Kind::Master;
        let watched = &instance.watched;
        let says_replica = is_master
            && instance.reported == Reported::Replica
            && now_ms - instance.reported_ms > instance.down_after_ms + self.periods.info * 2;
        let has_rebooted =
            watched.has_rebooted && now_ms - watched.rebooted_ms > watched.reboot_down_after_ms;
        let is_down = silent_ms > instance.down_after_ms || says_replica || has_rebooted;
        if is_down == instance.s_down {
            return;
        }
        let channel = if is_down { "+sdown" } else { "-sdown" };
        self.event(Level::Warning, channel, id, "");
        if let Some(instance) = self.get_mut(id) {
            instance.s_down = is_down;
            if is_down {
                instance.s_down_since_ms = now_ms;
            } else {
                instance.script_kill_sent = false;
            }
        }
    }

    /// Connections that seem to be up but bring nothing are made anew.
    fn break_stale_connections(&mut self, id: Id) {
        let (now_ms, periods) = (self.now_ms, &self.periods);
        let Some(instance) = self.get(id) else {
            return;
        };
        let Some(link) = self.link_of(instance) else {
            return;
        };
        let patience_ms = instance.down_after_ms / 2;
        let commands_stale = link.commands.is_some()
            && now_ms - link.commands_since_ms > periods.min_link_reconnect
            && link.act_ping_ms != 0
            && now_ms - link.act_ping_ms > patience_ms
            && now_ms - link.last_pong_ms > patience_ms;
        // We hear our own messages there too.
        let pubsub_stale = link.pubsub.is_some()
            && now_ms - link.pubsub_since_ms > periods.min_link_reconnect
            && now_ms - link.pubsub_active_ms > periods.publish * 3;
        let link = instance.link;
        if commands_stale {
            self.drop_commands(link);
        }
        if pubsub_stale {
            self.drop_pubsub(link);
        }
    }

    /// Do enough others say so as well? (ODOWN) They have said so some time ago: it is no agreement of one moment.
    fn judge_with_others(&mut self, id: Id) {
        let now_ms = self.now_ms;
        let Some(master) = self.get(id) else {
            return;
        };
        let others = self
            .sentinels_of(id)
            .into_iter()
            .filter_map(|id| self.get(id));
        let say_down = 1 + others.filter(|s| s.sentinel.says_down).count();
        let quorum = master.watched.quorum;
        let is_down = master.s_down && say_down >= quorum as usize;
        if is_down == master.watched.o_down {
            return;
        }
        if is_down {
            let text = format!(" #quorum {say_down}/{quorum}");
            self.event(Level::Warning, "+odown", id, text);
        } else {
            self.event(Level::Warning, "-odown", id, "");
        }
        if let Some(master) = self.get_mut(id) {
            master.watched.o_down = is_down;
            if is_down {
                master.watched.o_down_since_ms = now_ms;
            }
        }
    }

    /// Asks the other Sentinels of a master that seems down whether they agree, and for their vote if we want it.
    fn ask_others(&mut self, master: Id, at_once: bool) {
        let (now_ms, ask_ms) = (self.now_ms, self.periods.ask);
        for id in self.sentinels_of(master) {
            let Some(other) = self.get_mut(id) else {
                continue;
            };
            let silent_ms = now_ms - other.sentinel.last_reply_ms;
            if silent_ms > ask_ms * 5 {
                other.sentinel.says_down = false;
                other.leader = None;
            }
            let Some(down) = self.get(master).filter(|m| m.s_down) else {
                continue;
            };
            if self.is_disconnected(id) || (!at_once && silent_ms < ask_ms) {
                continue;
            }
            let ip = self.announced(&down.addr).to_string();
            let port = down.addr.port.to_string();
            let epoch = self.current_epoch.to_string();
            let wanted = match down.in_failover() {
                true => self.myid.clone(),
                false => "*".to_string(),
            };
            let argv: [&[u8]; 6] = [
                b"SENTINEL",
                b"is-master-down-by-addr",
                ip.as_bytes(),
                port.as_bytes(),
                epoch.as_bytes(),
                wanted.as_bytes(),
            ];
            if let Some(conn) = self.commands_of(id) {
                self.ask(conn, id, Question::IsMasterDown, &argv);
            }
        }
    }
}
