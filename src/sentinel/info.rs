//! INFO of a master or replica: who it is, whom it follows, who follows it; and what follows from that.
//!
//! Replicas are found here, in what their master says. What a promoted replica says of its role ends the wait for it; one
//! that follows the wrong master, or none, is set right, but only after a while: another Sentinel may be about to tell us that
//! it is we who are behind.

use super::instance::{Id, Instance, Kind, Reconf, Reported};
use super::state::Sentinel;
use crate::base::level::Level;
use crate::resp::value::Value;
use crate::sentinel::failover::Stage;

/// A number at the beginning of a text, as C reads one; 0 if there is none.
pub(super) fn leading_number(text: &str) -> i64 {
    let text = text.trim_start();
    let digits_from = usize::from(text.starts_with(['-', '+']));
    let digits = text[digits_from..]
        .bytes()
        .take_while(u8::is_ascii_digit)
        .count();
    text[..digits_from + digits].parse().unwrap_or(0)
}

/// The replica that a line of INFO names, in the form of today or of old: `ip=..,port=..` or `ip,port,state`.
fn replica_of(value: &str) -> Option<(&str, i64)> {
    if !value.contains("ip=") {
        let mut parts = value.splitn(3, ',');
        let (ip, port) = (parts.next()?, parts.next()?);
        parts.next()?;
        return Some((ip, leading_number(port)));
    }
    let field = |name: &str| {
        let rest = &value[value.find(name)? + name.len()..];
        rest.split(',').next()
    };
    Some((field("ip=")?, leading_number(field("port=")?)))
}

impl Sentinel {
    /// INFO was answered.
    pub(super) fn info_came(&mut self, id: Id, value: &Value) {
        if let Value::Bulk(text) | Value::Verbatim { text, .. } = value {
            self.refresh(id, text);
        }
    }

    fn refresh(&mut self, id: Id, text: &[u8]) {
        let now_ms = self.now_ms;
        if let Some(instance) = self.get_mut(id) {
            instance.info = Some(text.to_vec());
            instance.replica.link_down_ms = 0;
        }
        let mut role = Reported::Nothing;
        let text = String::from_utf8_lossy(text);
        for line in text.split("\r\n") {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            match (name, value) {
                ("run_id", value) if value.len() >= 40 => self.note_run_id(id, value),
                ("master_link_down_since_seconds", value) => {
                    if let Some(instance) = self.get_mut(id) {
                        let seconds = leading_number(value);
                        instance.replica.link_down_ms = seconds.saturating_mul(1000);
                    }
                }
                ("role", value) if value.starts_with("master") => role = Reported::Master,
                ("role", value) if value.starts_with("slave") => role = Reported::Replica,
                _ if is_replica_line(name) => self.note_replica(id, value),
                _ if role == Reported::Replica => {
                    if let Some(instance) = self.get_mut(id) {
                        note_as_replica(instance, name, value, now_ms);
                    }
                }
                _ => {}
            }
        }
        if let Some(instance) = self.get_mut(id) {
            instance.info_ms = now_ms;
        }
        self.note_role(id, role);
        if self.tilt_since_ms.is_none() {
            self.act_on_role(id, role);
        }
    }

    /// Another run ID is another process, which may know nothing of what the last one knew.
    fn note_run_id(&mut self, id: Id, value: &str) {
        let now_ms = self.now_ms;
        let Some(runid) = value.get(..40) else {
            return;
        };
        let Some(instance) = self.get_mut(id) else {
            return;
        };
        let before = instance.runid.replace(runid.to_string());
        if before.is_none_or(|before| before == runid) {
            return;
        }
        let watched = &mut instance.watched;
        if instance.kind == Kind::Master && watched.reboot_down_after_ms != 0 {
            watched.has_rebooted = true;
            watched.rebooted_ms = now_ms;
        }
        self.event(Level::Notice, "+reboot", id, "");
    }

    /// A master names one of its replicas.
    fn note_replica(&mut self, master: Id, value: &str) {
        let Some(instance) = self.get(master).filter(|i| i.kind == Kind::Master) else {
            return;
        };
        let quorum = instance.watched.quorum;
        let Some((host, port)) = replica_of(value) else {
            return;
        };
        if self.must_wait_for(host) {
            return;
        }
        let known = self.make_addr(host, port, false).ok();
        let known = known.map(|addr| self.announced_with_port(&addr));
        let is_known = |i: &Instance| known.is_some_and(|k| i.watched.replicas.contains_key(&k));
        if self.get(master).is_some_and(is_known) {
            return;
        }
        if let Ok(id) = self.add(Kind::Replica, "", (host, port), quorum, Some(master)) {
            self.event(Level::Notice, "+slave", id, "");
            self.persist();
        }
    }

    fn note_role(&mut self, id: Id, role: Reported) {
        let now_ms = self.now_ms;
        let Some(instance) = self.get_mut(id).filter(|i| i.reported != role) else {
            return;
        };
        instance.reported = role;
        instance.reported_ms = now_ms;
        if role == Reported::Replica {
            instance.conf_changed_ms = now_ms;
        }
        let fits = matches!(
            (instance.kind, role),
            (Kind::Master, Reported::Master) | (Kind::Replica, Reported::Replica)
        );
        let channel = if fits { "+role-change" } else { "-role-change" };
        let word = match role {
            Reported::Master => "master",
            _ => "slave",
        };
        let text = format!(" new reported role is {word}");
        self.event(Level::Verbose, channel, id, text);
    }

    fn act_on_role(&mut self, id: Id, role: Reported) {
        let Some(instance) = self.get(id).filter(|i| i.kind == Kind::Replica) else {
            // A master that says it is a replica counts as down after a while: see the tick.
            return;
        };
        let Some(master) = instance.master else {
            return;
        };
        match role {
            Reported::Master => self.replica_is_master(id, master),
            Reported::Replica => {
                self.set_right(id, master);
                self.note_reconf(id);
            }
            Reported::Nothing => {}
        }
    }

    /// A replica says that it is a master: as we wanted it, or against our will.
    fn replica_is_master(&mut self, id: Id, master: Id) {
        let (Some(replica), Some(of)) = (self.get(id), self.get(master)) else {
            return;
        };
        let is_promoted = replica.replica.is_promoted;
        if is_promoted && of.watched.stage == Stage::WaitPromotion {
            return self.promotion_seen(id, master);
        }
        let wait_ms = self.periods.publish * 4;
        let is_settled = self.now_ms - replica.reported_ms > wait_ms;
        if !is_promoted
            && is_settled
            && self.looks_sane(of)
            && self.was_up_for(replica, wait_ms)
            && self.send_replicaof(id, Some(master))
        {
            self.event(Level::Notice, "+convert-to-slave", id, "");
        }
    }

    /// A replica of another master than ours is told to follow ours.
    fn set_right(&mut self, id: Id, master: Id) {
        let (Some(replica), Some(of)) = (self.get(id), self.get(master)) else {
            return;
        };
        let host = replica.replica.master_host.as_deref().unwrap_or_default();
        let follows_ours = replica.replica.master_port == i64::from(of.addr.port)
            && self.is_host_of(&of.addr, host);
        let wait_ms = of.watched.failover_timeout_ms;
        if !follows_ours
            && self.looks_sane(of)
            && self.was_up_for(replica, wait_ms)
            && self.now_ms - replica.conf_changed_ms > wait_ms
            && self.send_replicaof(id, Some(master))
        {
            self.event(Level::Notice, "+fix-slave-config", id, "");
        }
    }

    /// A replica that was told to follow the promoted one: does it, is it through?
    fn note_reconf(&mut self, id: Id) {
        let Some(replica) = self.get(id) else {
            return;
        };
        let master = replica.master.and_then(|id| self.get(id));
        let promoted = master
            .and_then(|m| m.watched.promoted)
            .and_then(|id| self.get(id));
        let seen = &replica.replica;
        let follows_it = promoted.is_some_and(|p| {
            seen.master_port == i64::from(p.addr.port)
                && (seen.master_host.as_deref()).is_some_and(|host| self.is_host_of(&p.addr, host))
        });
        let (mut reconf, link_up) = (seen.reconf, seen.link_up);
        if reconf == Reconf::Sent && follows_it {
            reconf = Reconf::InProgress;
            self.event(Level::Notice, "+slave-reconf-inprog", id, "");
        }
        if reconf == Reconf::InProgress && link_up {
            reconf = Reconf::Done;
            self.event(Level::Notice, "+slave-reconf-done", id, "");
        }
        if let Some(replica) = self.get_mut(id) {
            replica.replica.reconf = reconf;
        }
    }

    /// True if a master is one, says so, and did so lately.
    fn looks_sane(&self, master: &Instance) -> bool {
        master.reported == Reported::Master
            && !master.s_down
            && !master.watched.o_down
            && self.now_ms - master.info_ms < self.periods.info * 2
    }

    /// True if it was not found down within so many ms.
    fn was_up_for(&self, instance: &Instance, ms: i64) -> bool {
        let last_ms = instance
            .s_down_since_ms
            .max(instance.watched.o_down_since_ms);
        last_ms == 0 || self.now_ms - last_ms > ms
    }
}

/// `slave0`, `slave1` ...
fn is_replica_line(name: &str) -> bool {
    let number = name.strip_prefix("slave");
    number.is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
}

/// A field that only a replica has.
fn note_as_replica(instance: &mut Instance, name: &str, value: &str, now_ms: i64) {
    let seen = &mut instance.replica;
    match name {
        "master_host" => {
            let is_same = |host: &String| host.eq_ignore_ascii_case(value);
            if !seen.master_host.as_ref().is_some_and(is_same) {
                seen.master_host = Some(value.to_string());
                instance.conf_changed_ms = now_ms;
            }
        }
        "master_port" => {
            let port = leading_number(value);
            if seen.master_port != port {
                seen.master_port = port;
                instance.conf_changed_ms = now_ms;
            }
        }
        "master_link_status" => seen.link_up = value.eq_ignore_ascii_case("up"),
        "slave_priority" => seen.priority = leading_number(value),
        "slave_repl_offset" => seen.offset = value.parse().unwrap_or(0),
        "replica_announced" => seen.is_announced = leading_number(value) != 0,
        _ => {}
    }
}
