//! Hello messages: every Sentinel tells, through every master and replica and to every other Sentinel, that it is there and
//! what it knows of the master.
//!
//! ```text
//! ip,port,id,current epoch,  master's name,ip,port,config epoch
//! └─ the Sentinel ────────┘  └─ its view of the master ──────┘
//! ```
//! So Sentinels of a master find each other without being configured, and the view with the greater config epoch wins: it
//! was made by whoever was elected for that epoch, and no two ever are.

use super::HELLO_CHANNEL;
use super::info::leading_number;
use super::instance::{Id, Kind};
use super::state::Sentinel;
use super::wire::Question;
use crate::base::level::Level;
use crate::resp::value::Value;

/// What a message says.
struct Hello<'a> {
    host: &'a str,
    port: i64,
    id: &'a str,
    epoch: u64,
    master_host: &'a str,
    master_port: i64,
    config_epoch: u64,
}

impl Sentinel {
    /// Something has come where hello messages come.
    pub(super) fn hear_hello(&mut self, listener: Id, words: &[Value]) {
        let now_ms = self.now_ms;
        if let Some(link) = self.link_mut(listener) {
            link.pubsub_active_ms = now_ms;
        }
        let [Value::Bulk(kind), Value::Bulk(_), Value::Bulk(message)] = words else {
            return;
        };
        if kind != b"message" {
            return;
        }
        let text = String::from_utf8_lossy(message);
        // Our own messages come back to us.
        if !text.contains(&self.myid) {
            self.hello(&text);
        }
    }

    /// A hello message, also one that was sent to us directly (PUBLISH).
    pub fn hello(&mut self, text: &str) {
        let parts: Vec<&str> = text.split(',').collect();
        let &[
            host,
            port,
            id,
            epoch,
            name,
            master_host,
            master_port,
            config_epoch,
        ] = parts.as_slice()
        else {
            return;
        };
        let Some(master) = self.master_named(name).map(|m| m.id) else {
            return;
        };
        let hello = Hello {
            host,
            port: leading_number(port),
            id,
            epoch: epoch.parse().unwrap_or(0),
            master_host,
            master_port: leading_number(master_port),
            config_epoch: config_epoch.parse().unwrap_or(0),
        };
        if self.must_wait_for(host) || self.must_wait_for(master_host) {
            return;
        }
        let sentinel = self.known_sentinel(master, &hello);
        let sentinel = sentinel.or_else(|| self.meet_sentinel(master, &hello));
        self.note_epoch(master, hello.epoch);
        if let Some(sentinel) = sentinel {
            self.note_config(master, sentinel, &hello);
            let now_ms = self.now_ms;
            if let Some(sentinel) = self.get_mut(sentinel) {
                sentinel.sentinel.last_hello_ms = now_ms;
            }
        }
    }

    /// The Sentinel with the message's ID and address.
    fn known_sentinel(&mut self, master: Id, hello: &Hello<'_>) -> Option<Id> {
        let addr = self.make_addr(hello.host, hello.port, true).ok()?;
        let mut all = self
            .sentinels_of(master)
            .into_iter()
            .filter_map(|id| self.get(id));
        let known = all.find(|s| s.runid.as_deref() == Some(hello.id) && s.addr.is(&addr));
        known.map(|s| s.id)
    }

    /// A Sentinel that is new to this master, or has moved.
    fn meet_sentinel(&mut self, master: Id, hello: &Hello<'_>) -> Option<Id> {
        let has_moved = self.forget_sentinel(master, hello.id);
        if has_moved {
            let text = format!(" ip {} port {} for {}", hello.host, hello.port, hello.id);
            self.event(Level::Notice, "+sentinel-address-switch", master, text);
        } else {
            self.evict_from_address(master, hello);
        }
        let quorum = self.get(master).map_or(0, |m| m.watched.quorum);
        let place = (hello.host, hello.port);
        let id = self.add(Kind::Sentinel, hello.id, place, quorum, Some(master));
        let id = id.ok()?;
        if !has_moved {
            self.event(Level::Notice, "+sentinel", id, "");
        }
        if let Some(sentinel) = self.get_mut(id) {
            sentinel.runid = Some(hello.id.to_string());
        }
        self.share_link(id);
        if has_moved {
            self.move_everywhere(id);
        }
        self.persist();
        Some(id)
    }

    fn forget_sentinel(&mut self, master: Id, runid: &str) -> bool {
        let all = self.sentinels_of(master).into_iter();
        let known = |id: &Id| {
            self.get(*id)
                .is_some_and(|s| s.runid.as_deref() == Some(runid))
        };
        let found: Vec<Id> = all.filter(known).collect();
        for id in &found {
            self.remove(*id);
        }
        !found.is_empty()
    }

    /// Two Sentinels can't have one address: the one that was there before is gone, for all masters.
    fn evict_from_address(&mut self, master: Id, hello: &Hello<'_>) {
        let Ok(addr) = self.make_addr(hello.host, hello.port, true) else {
            return;
        };
        let mut all = self
            .sentinels_of(master)
            .into_iter()
            .filter_map(|id| self.get(id));
        let Some((other, runid)) = all
            .find(|s| s.addr.is(&addr))
            .map(|s| (s.id, s.runid.clone()))
        else {
            return;
        };
        self.event(Level::Notice, "+sentinel-invalid-addr", other, "");
        let Some(runid) = runid else {
            return;
        };
        let masters: Vec<Id> = self.masters.values().copied().collect();
        for master in masters {
            self.forget_sentinel(master, &runid);
        }
    }

    /// A Sentinel has moved: so it has for all other masters that it watches.
    fn move_everywhere(&mut self, id: Id) {
        let Some(moved) = self.get(id) else {
            return;
        };
        let (addr, runid) = (moved.addr.clone(), moved.runid.clone());
        let same: Vec<Id> = (self.instances.values())
            .filter(|other| other.kind == Kind::Sentinel && other.runid == runid)
            .map(|other| other.id)
            .collect();
        let mut count = 0;
        for other in same {
            if let Some(link) = self.get(other).map(|other| other.link) {
                self.drop_connections(link);
            }
            if other != id
                && let Some(instance) = self.get_mut(other)
            {
                instance.addr = addr.clone();
                count += 1;
            }
        }
        if count > 0 {
            let text = format!(" {count} additional matching instances");
            self.event(Level::Notice, "+sentinel-address-update", id, text);
        }
    }

    /// Epochs only grow, and what one has seen is not forgotten.
    pub(super) fn note_epoch(&mut self, master: Id, epoch: u64) {
        if epoch > self.current_epoch {
            self.current_epoch = epoch;
            self.persist();
            self.tell_epoch(master);
        }
    }

    pub(super) fn tell_epoch(&mut self, master: Id) {
        let text = self.current_epoch.to_string();
        self.event_of(Level::Warning, "+new-epoch", Some(master), text);
    }

    /// Takes over what is newer than what we know of the master.
    fn note_config(&mut self, master: Id, sentinel: Id, hello: &Hello<'_>) {
        let Some(instance) = self.get_mut(master) else {
            return;
        };
        if instance.watched.config_epoch >= hello.config_epoch {
            return;
        }
        instance.watched.config_epoch = hello.config_epoch;
        let old = instance.addr.clone();
        if i64::from(old.port) == hello.master_port && self.is_host_of(&old, hello.master_host) {
            return;
        }
        self.event(Level::Warning, "+config-update-from", sentinel, "");
        let new = (hello.master_host, hello.master_port);
        self.tell_switch(master, new);
        if self.switch_master(master, new)
            && let Some(addr) = self.get(master).map(|m| m.addr.clone())
        {
            self.call_reconfig_script(master, "observer", &old, &addr);
        }
    }

    /// `+switch-master`: the event that clients wait for.
    pub(super) fn tell_switch(&mut self, master: Id, (host, port): (&str, i64)) {
        let Some(instance) = self.get(master) else {
            return;
        };
        let (name, addr) = (&instance.name, &instance.addr);
        let old = self.announced(addr);
        let text = format!("{name} {old} {} {host} {port}", addr.port);
        self.event_of(Level::Warning, "+switch-master", Some(master), text);
    }

    /// Tells an instance of ourselves, and what we know of its master.
    pub(super) fn send_hello(&mut self, id: Id) {
        let Some(instance) = self.get(id) else {
            return;
        };
        let Some(master) = self.get(self.master_of(instance)) else {
            return;
        };
        let ip = match &self.settings.announce_ip {
            Some(ip) => ip,
            // It shows once the connection is up.
            None => match self.own_ip(id) {
                Some(ip) => ip,
                None => return,
            },
        };
        let port = match self.settings.announce_port {
            0 => self.facts.port,
            port => port,
        };
        let addr = self.current_addr(master);
        let text = format!(
            "{ip},{port},{},{},{},{},{},{}",
            self.myid,
            self.current_epoch,
            master.name,
            self.announced(addr),
            addr.port,
            master.watched.config_epoch
        );
        if let Some(conn) = self.commands_of(id) {
            let argv: [&[u8]; 3] = [b"PUBLISH", HELLO_CHANNEL.as_bytes(), text.as_bytes()];
            self.ask(conn, id, Question::Publish, &argv);
        }
    }

    /// All who have to do with a master hear of us with the next tick.
    pub(super) fn hurry_hello(&mut self, master: Id) {
        let back_ms = self.periods.publish + 1;
        let mut all = self.sentinels_of(master);
        all.extend(self.replicas_of(master));
        all.push(master);
        for id in all {
            if let Some(instance) = self.get_mut(id)
                && instance.last_pub_ms >= back_ms
            {
                instance.last_pub_ms -= back_ms;
            }
        }
    }
}
