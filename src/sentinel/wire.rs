//! Connections to what is watched: commands go out with a note of who asked what, and answers come back in their order.
//!
//! An answer is for an instance, not for a connection: Sentinels share links. Who is gone when it comes does not hear it.

use std::collections::VecDeque;

use super::addr::literal;
use super::instance::{Id, Kind, LinkId};
use super::state::{Action, ConnId, Sentinel};
use crate::resp::command;
use crate::resp::value::{Decoder, Value};

/// Nobody has that much to tell us in one answer: the connection is closed.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Something whose answer tells nothing.
    Told,
    Info,
    Ping,
    Publish,
    IsMasterDown,
}

/// A connection.
#[derive(Default)]
pub struct Wire {
    link: Option<LinkId>,
    /// Whose hello messages come over it, if it is for those.
    listener: Option<Id>,
    asked: VecDeque<(Id, Question)>,
    decoder: Decoder,
    /// The beginning of an answer.
    input: Vec<u8>,
    /// Our own address as seen from there, once it is up.
    local_ip: Option<String>,
}

impl Sentinel {
    /// Opens a connection of a link.
    pub(super) fn open(&mut self, id: Id, listens: bool) -> Option<ConnId> {
        let instance = self.get(id)?;
        let addr = &instance.addr;
        // A name is looked up anew each time: the server may have come back elsewhere.
        let by_name = self.settings.resolve_hostnames && literal(&addr.host).is_none();
        let host = match by_name {
            true => addr.host.clone(),
            false => addr.ip.clone(),
        };
        let (link, port) = (instance.link, addr.port);
        let conn = ConnId(self.next_number());
        let wire = Wire {
            link: Some(link),
            listener: listens.then_some(id),
            ..Wire::default()
        };
        self.wires.insert(conn, wire);
        self.out.push(Action::Connect { conn, host, port });
        Some(conn)
    }

    /// Closes both connections of a link.
    pub(super) fn drop_connections(&mut self, id: LinkId) {
        self.drop_commands(id);
        self.drop_pubsub(id);
    }

    pub(super) fn drop_commands(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if let Some(conn) = link.commands.take() {
            link.pending = 0;
            link.disconnected = true;
            self.hang_up(conn);
        }
    }

    pub(super) fn drop_pubsub(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if let Some(conn) = link.pubsub.take() {
            link.disconnected = true;
            self.hang_up(conn);
        }
    }

    fn hang_up(&mut self, conn: ConnId) {
        self.wires.remove(&conn);
        self.out.push(Action::Close(conn));
    }

    /// Sends a command for an instance over a connection of its link; its own name for it if it was renamed there.
    pub(super) fn ask(&mut self, conn: ConnId, id: Id, question: Question, argv: &[&[u8]]) {
        let Some(wire) = self.wires.get_mut(&conn) else {
            return;
        };
        wire.asked.push_back((id, question));
        let link = wire.link;
        if let Some(link) = link.and_then(|id| self.links.get_mut(&id)) {
            link.pending += 1;
        }
        self.say(conn, id, argv);
    }

    /// The same without an answer to be noted.
    pub(super) fn say(&mut self, conn: ConnId, id: Id, argv: &[&[u8]]) {
        let mut argv = argv.to_vec();
        let renamed = argv.first().and_then(|name| self.renamed(id, name));
        if let (Some(first), Some(name)) = (argv.first_mut(), &renamed) {
            *first = name;
        }
        let mut bytes = Vec::new();
        command::encode(&argv, &mut bytes);
        self.out.push(Action::Send(conn, bytes));
    }

    /// The connection for commands to an instance.
    pub(super) fn commands_of(&self, id: Id) -> Option<ConnId> {
        let instance = self.get(id)?;
        self.link_of(instance)?.commands
    }

    fn renamed(&self, id: Id, name: &[u8]) -> Option<Vec<u8>> {
        let instance = self.get(id)?;
        let master = self.get(self.master_of(instance))?;
        let name = std::str::from_utf8(name).ok()?;
        let (_, renamed) = master.watched.renamed.get(name)?;
        Some(renamed.clone())
    }

    /// A connection is up: our address and the other side's.
    pub fn connected(&mut self, now_ms: i64, conn: ConnId, local_ip: &str, peer_ip: &str) {
        self.now_ms = now_ms;
        let Some(wire) = self.wires.get_mut(&conn) else {
            return;
        };
        wire.local_ip = Some(local_ip.to_string());
        let link = wire.link;
        if !self.settings.resolve_hostnames {
            return;
        }
        let Some(ip) = literal(peer_ip) else {
            return;
        };
        let mut names = Vec::new();
        for instance in self.instances.values_mut().filter(|i| Some(i.link) == link) {
            if literal(&instance.addr.host).is_none() {
                instance.addr.ip.clone_from(&ip);
                names.push(instance.addr.host.clone());
            }
        }
        for name in names {
            self.looked_up(now_ms, &name, Some(ip.clone()));
        }
    }

    /// Our own address as an instance sees it.
    pub(super) fn own_ip(&self, id: Id) -> Option<&str> {
        let wire = self.wires.get(&self.commands_of(id)?)?;
        wire.local_ip.as_deref()
    }

    /// A connection is over, or could not be made.
    pub fn closed(&mut self, now_ms: i64, conn: ConnId) {
        self.now_ms = now_ms;
        let wire = self.wires.remove(&conn);
        let Some(link) = wire
            .and_then(|w| w.link)
            .and_then(|id| self.links.get_mut(&id))
        else {
            return;
        };
        if link.commands == Some(conn) {
            link.commands = None;
        }
        if link.pubsub == Some(conn) {
            link.pubsub = None;
        }
        link.disconnected = true;
    }

    /// Bytes have come.
    pub fn receive(&mut self, now_ms: i64, conn: ConnId, bytes: &[u8]) {
        self.now_ms = now_ms;
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.input.extend_from_slice(bytes);
        }
        // Each answer may end the connection, so it is looked up again for the next.
        while let Some(wire) = self.wires.get_mut(&conn) {
            match wire.decoder.decode(&wire.input) {
                Ok((used, value)) => {
                    wire.input.drain(..used);
                    let is_too_much = wire.input.len() > ANSWER_MAX;
                    match value {
                        Some(value) => self.answered(conn, value),
                        None if is_too_much => self.break_off(conn),
                        None => return,
                    }
                }
                Err(_) => self.break_off(conn),
            }
        }
    }

    /// What comes makes no sense: as if the other side had hung up.
    fn break_off(&mut self, conn: ConnId) {
        self.out.push(Action::Close(conn));
        self.closed(self.now_ms, conn);
    }

    fn answered(&mut self, conn: ConnId, value: Value) {
        let Some(wire) = self.wires.get_mut(&conn) else {
            return;
        };
        if let (Some(listener), Value::Array(words) | Value::Push(words)) = (wire.listener, &value)
        {
            return self.hear_hello(listener, words);
        }
        let Some((id, question)) = wire.asked.pop_front() else {
            // An answer that nobody asked for can only be a refusal.
            return self.break_off(conn);
        };
        if let Some(link) = wire.link.and_then(|id| self.links.get_mut(&id)) {
            link.pending -= 1;
        }
        if self.get(id).is_none() {
            return;
        }
        match question {
            Question::Told => {}
            Question::Info => self.info_came(id, &value),
            Question::Ping => self.ping_answered(id, &value),
            Question::Publish if !value.is_error() => {
                let now_ms = self.now_ms;
                if let Some(instance) = self.get_mut(id) {
                    instance.last_pub_ms = now_ms;
                }
            }
            Question::Publish => {}
            Question::IsMasterDown => self.vote_came(id, &value),
        }
    }

    /// An answer to PING. Some errors are signs of health too.
    fn ping_answered(&mut self, id: Id, value: &Value) {
        let now_ms = self.now_ms;
        let text = match value {
            Value::Status(text) | Value::Error(text) => text.as_slice(),
            _ => b"",
        };
        let is_well = [&b"PONG"[..], b"LOADING", b"MASTERDOWN"];
        let is_well = is_well.iter().any(|word| text.starts_with(word));
        if let Some(link) = self.link_mut(id) {
            if is_well {
                link.avail_ms = now_ms;
                link.act_ping_ms = 0;
            }
            link.last_pong_ms = now_ms;
        }
        let Some(instance) = self.get_mut(id) else {
            return;
        };
        if text.starts_with(b"PONG") {
            instance.watched.has_rebooted = false;
        }
        let is_busy = text.starts_with(b"BUSY") && !is_well;
        if is_busy && instance.s_down && !instance.script_kill_sent {
            instance.script_kill_sent = true;
            if let Some(conn) = self.commands_of(id) {
                self.ask(conn, id, Question::Told, &[b"SCRIPT", b"KILL"]);
            }
        }
    }

    /// Identifies us on a connection, if a password is known.
    pub(super) fn identify(&mut self, id: Id, conn: ConnId) {
        let Some(instance) = self.get(id) else {
            return;
        };
        let settings = &self.settings;
        let (user, password) = match instance.kind {
            Kind::Sentinel if settings.password.is_some() => {
                (settings.user.clone(), settings.password.clone())
            }
            Kind::Sentinel => {
                let own = Some(&self.facts.password).filter(|own| !own.is_empty());
                (None, own.cloned())
            }
            _ => {
                let master = self.get(self.master_of(instance)).map(|m| &m.watched);
                let words = master.map(|m| (m.auth_user.clone(), m.auth_pass.clone()));
                words.unwrap_or_default()
            }
        };
        match (user, password) {
            (None, Some(password)) => {
                self.ask(conn, id, Question::Told, &[b"AUTH", &password]);
            }
            (Some(user), Some(password)) => {
                self.ask(conn, id, Question::Told, &[b"AUTH", &user, &password]);
            }
            (_, None) => {}
        }
    }

    /// Names a connection after us, for those who list the clients there.
    pub(super) fn name_connection(&mut self, id: Id, conn: ConnId, what: &str) {
        let own: String = self.myid.chars().take(8).collect();
        let name = format!("sentinel-{own}-{what}");
        let argv: [&[u8]; 3] = [b"CLIENT", b"SETNAME", name.as_bytes()];
        self.ask(conn, id, Question::Told, &argv);
    }

    /// All connections to a master and its replicas are made anew.
    pub fn reconnect_master(&mut self, master: Id) {
        let mut all = self.replicas_of(master);
        all.push(master);
        for id in all {
            if let Some(link) = self.get(id).map(|i| i.link) {
                self.drop_connections(link);
            }
        }
    }

    /// All connections to other Sentinels are made anew.
    pub fn reconnect_sentinels(&mut self) {
        let links: Vec<LinkId> = (self.instances.values())
            .filter(|i| i.kind == Kind::Sentinel)
            .map(|i| i.link)
            .collect();
        for link in links {
            self.drop_connections(link);
        }
    }
}
