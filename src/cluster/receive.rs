//! What is made of a message: who has sent it, what it says of the sender, and what is to be answered.

use super::gossip;
use super::links::ConnId;
use super::node::{Flags, Id, Name, Node};
use super::slotset::SlotSet;
use super::state::{Action, Cluster, Todo};
use super::wire::{self, Body, Extension, Gossip, Header, Kind, Message, PAUSED, Unreadable};
use crate::base::level::Level;
use crate::base::planted::{self, Bug};
use crate::base::slot::Slot;

/// A message on its way through.
struct Heard<'a> {
    conn: ConnId,
    kind: Kind,
    header: &'a Header,
    /// The node that has sent it, if we know it.
    sender: Option<Id>,
    /// The epochs that it tells, if it is not in handshake.
    config_epoch: u64,
}

impl Cluster {
    /// A whole message has come.
    pub(super) fn hear(&mut self, conn: ConnId, frame: &[u8]) {
        let number = wire::kind_of(frame);
        if let Some(count) = self.counted.received.get_mut(usize::from(number)) {
            *count += 1;
        }
        if self.drop_kind == Some(number) {
            let text = "Dropping packet that matches debug drop filter";
            return self.log(Level::Warning, text);
        }
        match wire::decode(frame) {
            Ok(message) => self.hear_message(conn, &message),
            Err(Unreadable::Because(why)) => self.log(Level::Warning, why),
            Err(Unreadable::Silently) => {}
        }
    }

    fn hear_message(&mut self, conn: ConnId, message: &Message) {
        let Message { kind, header, body } = message;
        let Some(&kind) = Kind::ALL.get(usize::from(*kind)) else {
            let text = format!("Received unknown packet type: {kind}");
            return self.log(Level::Warning, text);
        };
        if header.sender == Name::NONE {
            return;
        }
        let sender = self.sender_of(conn, header);
        let config_epoch = sender.map_or(0, |id| self.note_sender(id, header));
        let heard = Heard {
            conn,
            kind,
            header,
            sender,
            config_epoch,
        };
        match (body, sender) {
            (Body::Gossip(gossip, extensions), _) => self.hear_ping(&heard, gossip, extensions),
            (Body::Fail(about), Some(sender)) => self.hear_fail(sender, about),
            (Body::Fail(about), None) => {
                let text = format!(
                    "Ignoring FAIL message from unknown node {} about {about}",
                    header.sender
                );
                self.log(Level::Notice, text);
            }
            (_, None) => {}
            (Body::Publish { channel, message }, Some(_)) => self.out.push(Action::Publish {
                channel: channel.clone().into(),
                message: message.clone().into(),
                sharded: kind == Kind::PublishShard,
            }),
            (
                Body::Update {
                    config_epoch,
                    name,
                    slots,
                },
                Some(_),
            ) => self.hear_update(*config_epoch, name, slots),
            (Body::Other, Some(sender)) => match kind {
                Kind::AuthRequest => self.hear_vote_request(sender, header),
                Kind::AuthAck => self.hear_vote(sender, header),
                Kind::ManualStart => self.hear_manual_start(conn, sender),
                _ => {}
            },
        }
    }

    /// The node that has sent it: whose link it is, or who the message says.
    fn sender_of(&mut self, conn: ConnId, header: &Header) -> Option<Id> {
        let of_link = self.links.get(&conn)?.node;
        if let Some(node) = of_link.and_then(|id| self.nodes.get(&id))
            && !node.in_handshake()
        {
            return Some(node.id);
        }
        let sender = self.names.get(&header.sender).copied()?;
        if of_link.is_none() {
            self.bind_inbound(conn, sender);
        }
        Some(sender)
    }

    /// What the header says of a sender that we know. The configuration epoch that it claims; 0 in handshake.
    fn note_sender(&mut self, id: Id, header: &Header) -> u64 {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id) else {
            return 0;
        };
        node.heard_ms = now_ms;
        if node.in_handshake() {
            return 0;
        }
        node.offset = header.offset as i64;
        node.offset_ms = now_ms;
        let is_newer = header.config_epoch > node.config_epoch;
        if is_newer {
            node.config_epoch = header.config_epoch;
        }
        self.current_epoch = self.current_epoch.max(header.current_epoch);
        if is_newer {
            self.do_later(Todo::SAVE.and(Todo::SURE));
        }
        if header.marks & PAUSED != 0 {
            self.hear_paused_master(id, header.offset as i64);
        }
        header.config_epoch
    }

    /// PING, PONG, MEET.
    fn hear_ping(&mut self, heard: &Heard<'_>, gossip: &[Gossip], extensions: &[Extension]) {
        if heard.kind != Kind::Pong {
            self.answer_ping(heard, gossip);
        }
        if !self.check_other_end(heard) {
            return;
        }
        let Some(sender) = heard.sender.filter(|id| self.nodes.contains_key(id)) else {
            self.note_pong(heard);
            return;
        };
        if let Some(node) = self.nodes.get_mut(&sender) {
            let nofailover = heard.header.flags.has(Flags::NOFAILOVER);
            node.flags.set(Flags::NOFAILOVER, nofailover);
            if heard.kind == Kind::Ping && !node.in_handshake() {
                self.update_address(sender, heard);
            }
        }
        self.note_pong(heard);
        self.note_role(sender, heard.header.master);
        self.note_slots(sender, heard);
        let same_epoch = heard.config_epoch == self.myself().config_epoch;
        if same_epoch && sender != self.me {
            self.part_epochs(sender);
        }
        self.hear_gossip(Some(sender), gossip);
        self.hear_extensions(sender, extensions);
    }

    /// Answers a PING or MEET; who is new and says MEET is taken in.
    fn answer_ping(&mut self, heard: &Heard<'_>, entries: &[Gossip]) {
        let is_meet = heard.kind == Kind::Meet;
        let Some(link) = self.links.get(&heard.conn) else {
            return;
        };
        let (own_ip, peer_ip) = (link.own_ip.clone(), link.peer_ip.clone());
        let me = self.myself();
        // Others reach us where this link ends: so we learn our address.
        if (is_meet || me.ip.is_empty())
            && self.settings.ip.is_empty()
            && !own_ip.is_empty()
            && me.ip != own_ip
        {
            self.log(
                Level::Notice,
                format!("IP address for this node updated to {own_ip}"),
            );
            if let Some(me) = self.me_mut() {
                me.ip = own_ip;
            }
            self.do_later(Todo::SAVE);
        }
        if is_meet && heard.sender.is_none() {
            let name = self.random_name();
            let id = self.add_node(name, Flags::HANDSHAKE);
            let tls_bus = self.settings.tls_bus;
            if let Some(node) = self.nodes.get_mut(&id) {
                place(node, heard.header, &peer_ip, tls_bus);
            }
            self.do_later(Todo::SAVE);
            self.hear_gossip(None, entries);
        }
        self.send_ping(heard.conn, Kind::Pong);
    }

    /// On a link of ours: is the one at its other end who we think it is? False if that was the end of it.
    fn check_other_end(&mut self, heard: &Heard<'_>) -> bool {
        let link = self.links.get(&heard.conn).filter(|link| !link.inbound);
        let Some(node) = link.and_then(|link| self.nodes.get(&link.node?)) else {
            return true;
        };
        let id = node.id;
        if node.in_handshake() {
            if let Some(sender) = heard.sender {
                // We know it already, maybe by another address.
                let text = format!(
                    "Handshake: we already know node {}, updating the address if needed.",
                    self.who(sender)
                );
                self.log(Level::Verbose, text);
                self.update_address(sender, heard);
                self.remove_node(id);
                return false;
            }
            self.rename_node(id, heard.header.sender);
            let role = heard.header.flags.and(Flags::MASTER.or(Flags::REPLICA));
            if let Some(node) = self.nodes.get_mut(&id) {
                node.flags.set(Flags::HANDSHAKE, false);
                node.flags = node.flags.or(role);
            }
            let text = format!("Handshake with node {} completed.", heard.header.sender);
            self.log(Level::Debug, text);
            self.do_later(Todo::SAVE);
        } else if node.name != heard.header.sender {
            let text = format!(
                "PONG contains mismatching sender ID. About node {} added {} ms ago, having flags {}",
                node.name,
                self.now_ms - node.created_ms,
                node.flags.0
            );
            self.log(Level::Debug, text);
            if let Some(node) = self.nodes.get_mut(&id) {
                node.flags.set(Flags::NOADDR, true);
                node.ip.clear();
                (node.port, node.tls_port, node.bus_port) = (0, 0, 0);
            }
            self.drop_link(heard.conn);
            self.do_later(Todo::SAVE);
            return false;
        }
        true
    }

    /// A node may have another address than we know: then our link goes there. It is looked at where it speaks of itself on
    /// a link of its own.
    fn update_address(&mut self, id: Id, heard: &Heard<'_>) {
        let (conn, header) = (heard.conn, heard.header);
        let Some(peer_ip) = self.links.get(&conn).map(|link| link.peer_ip.clone()) else {
            return;
        };
        let ip = if header.ip.is_empty() {
            &peer_ip
        } else {
            &header.ip
        };
        let tls_bus = self.settings.tls_bus;
        let Some(node) = self.nodes.get_mut(&id).filter(|n| n.link != Some(conn)) else {
            return;
        };
        let ports = (header.port, header.other_port);
        let is_there = node.ports(tls_bus) == ports && node.bus_port == header.bus_port;
        if ip.is_empty() || (is_there && node.ip == *ip) {
            return;
        }
        place(node, header, &peer_ip, tls_bus);
        node.flags.set(Flags::NOADDR, false);
        let (link, ip, port) = (node.link, node.ip.clone(), node.port);
        if let Some(link) = link {
            self.drop_link(link);
        }
        let text = format!("Address updated for node {}, now {ip}:{port}", self.who(id));
        self.log(Level::Notice, text);
        if self.myself().is_replica() && self.myself().master == Some(id) {
            self.out.push(Action::Follow { ip, port });
        }
        self.do_later(Todo::SAVE.and(Todo::JUDGE));
    }

    /// A node has answered our ping: it is there.
    fn note_pong(&mut self, heard: &Heard<'_>) {
        let link = self.links.get(&heard.conn).filter(|link| !link.inbound);
        let id = link.and_then(|link| link.node);
        let (Some(id), Kind::Pong) = (id, heard.kind) else {
            return;
        };
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.pong_received_ms = now_ms;
        node.ping_sent_ms = 0;
        if node.has_timed_out() {
            node.flags.set(Flags::PFAIL, false);
            self.do_later(Todo::SAVE.and(Todo::JUDGE));
        } else if node.has_failed() {
            self.undo_failure(id);
        }
    }

    /// The sender is a master, or the replica of one.
    fn note_role(&mut self, id: Id, master: Option<Name>) {
        let Some(master) = master else {
            return self.be_master(id);
        };
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        if node.is_master() {
            node.flags.set(Flags::MASTER.or(Flags::MIGRATE_TO), false);
            node.flags.set(Flags::REPLICA, true);
            self.drop_slots_of(id);
            self.do_later(Todo::SAVE.and(Todo::JUDGE));
        }
        let Some(&master) = self.names.get(&master) else {
            return;
        };
        let before = self.nodes.get(&id).and_then(|node| node.master);
        if before == Some(master) {
            return;
        }
        if let Some(before) = before {
            self.remove_replica(before, id);
        }
        self.add_replica(master, id);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.master = Some(master);
        }
        if let Some(shard) = self.nodes.get(&master).map(|master| master.shard) {
            self.put_in_shard(id, shard);
        }
        self.do_later(Todo::SAVE);
    }

    /// A node is a master from now on.
    pub(super) fn be_master(&mut self, id: Id) {
        let is_me = id == self.me;
        let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.is_master()) else {
            return;
        };
        node.flags.set(Flags::REPLICA, false);
        node.flags.set(Flags::MASTER, true);
        if let Some(before) = node.master.take() {
            if !is_me {
                node.flags.set(Flags::MIGRATE_TO, true);
            }
            self.remove_replica(before, id);
        }
        self.do_later(Todo::SAVE.and(Todo::JUDGE));
    }

    /// The slots that the sender claims, and those that others have with a greater epoch: of these it is told.
    fn note_slots(&mut self, id: Id, heard: &Heard<'_>) {
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        let (is_master, link) = (node.is_master(), node.link);
        let shown = match is_master {
            true => Some(node),
            false => node.master.and_then(|master| self.node(master)),
        };
        let claimed = &heard.header.slots;
        if shown.is_none_or(|shown| shown.slots == *claimed) {
            return;
        }
        if is_master {
            self.claim_slots(id, heard.config_epoch, claimed);
        }
        let is_outdated = |slot: Slot| {
            // (Mostly it is the sender's, which takes no look at a node.)
            let owner = self.owners[slot.index()].filter(|owner| *owner != id)?;
            let owner = self.nodes.get(&owner)?;
            let newer = !self.unclaimed.has(slot) && owner.config_epoch > heard.config_epoch;
            newer.then_some(owner.id)
        };
        let Some(owner) = claimed.iter().find_map(is_outdated) else {
            return;
        };
        let names = [id, owner].map(|id| self.nodes.get(&id).map_or(Name::NONE, |n| n.name));
        let text = format!(
            "Node {} has old slots configuration, sending an UPDATE message about {}",
            names[0], names[1]
        );
        self.log(Level::Verbose, text);
        if let Some(link) = link {
            self.send_update(link, owner);
        }
    }

    fn send_update(&mut self, conn: ConnId, about: Id) {
        let Some(node) = self.nodes.get(&about) else {
            return;
        };
        let body = Body::Update {
            config_epoch: node.config_epoch,
            name: node.name,
            slots: node.slots.without(&self.unclaimed),
        };
        let message = wire::encode(Kind::Update, &self.header(), &body);
        self.send(conn, Kind::Update, message.into());
    }

    /// Two masters have the same epoch: the one with the smaller name takes a new one.
    fn part_epochs(&mut self, sender: Id) {
        let (me, Some(other)) = (self.myself(), self.node(sender)) else {
            return;
        };
        let collides = other.is_master()
            && me.is_master()
            && other.config_epoch == me.config_epoch
            && other.name > me.name;
        if !collides || planted::on(Bug::SameEpochKept) {
            return;
        }
        self.current_epoch = self.current_epoch.saturating_add(1);
        let epoch = self.current_epoch;
        if let Some(me) = self.me_mut() {
            me.config_epoch = epoch;
        }
        let text = format!(
            "WARNING: configEpoch collision with node {}. configEpoch set to {epoch}",
            self.who(sender)
        );
        self.log(Level::Verbose, text);
        self.do_later(Todo::SAVE.and(Todo::SURE));
    }

    fn hear_fail(&mut self, sender: Id, about: &Name) {
        let now_ms = self.now_ms;
        let known = Flags::FAIL.or(Flags::MYSELF);
        let id = self.names.get(about).copied();
        let Some(id) = id.filter(|id| self.node(*id).is_some_and(|n| !n.flags.has(known))) else {
            return;
        };
        let text = format!(
            "FAIL message received from {} about {}",
            self.who(sender),
            self.who(id)
        );
        self.log(Level::Notice, text);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.has_failed_at(now_ms);
        }
        self.do_later(Todo::SAVE.and(Todo::JUDGE));
    }

    /// Somebody tells us of a claim that we do not know.
    fn hear_update(&mut self, config_epoch: u64, name: &Name, slots: &SlotSet) {
        let Some(&id) = self.names.get(name) else {
            return;
        };
        let Some(node) = self
            .nodes
            .get(&id)
            .filter(|n| n.config_epoch < config_epoch)
        else {
            return;
        };
        if node.is_replica() {
            self.be_master(id);
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.config_epoch = config_epoch;
        }
        self.do_later(Todo::SAVE.and(Todo::SURE));
        self.claim_slots(id, config_epoch, slots);
    }

    /// Sends a message that a client has published to the nodes that are to deliver it too: all, or our shard's.
    pub fn publish(&mut self, channel: &[u8], message: &[u8], sharded: bool) {
        let body = Body::Publish {
            channel: channel.to_vec(),
            message: message.to_vec(),
        };
        let kind = match sharded {
            true => Kind::PublishShard,
            false => Kind::Publish,
        };
        let shard = self.myself().shard;
        let out_of_it = Flags::MYSELF.or(Flags::HANDSHAKE);
        let hears = |n: &&Node| !n.flags.has(out_of_it) && (!sharded || n.shard == shard);
        let to = self.nodes.values().filter(hears);
        let conns: Vec<ConnId> = to.filter_map(|node| node.link).collect();
        if conns.is_empty() {
            return;
        }
        let bytes = bytes::Bytes::from(wire::encode(kind, &self.header(), &body));
        for conn in conns {
            self.send(conn, kind, bytes.clone());
        }
    }

    /// CLUSTER FORGET: nothing is heard of a node for a minute.
    pub(super) fn blacklist(&mut self, name: Name) {
        self.is_forgotten(&name);
        let until_s = self.now_ms / 1000 + gossip::FORGET_S;
        self.forgotten.insert(name, until_s);
    }
}

/// A node is where its message says, or where that came from.
fn place(node: &mut Node, header: &Header, peer_ip: &str, tls_bus: bool) {
    let ip = if header.ip.is_empty() {
        peer_ip
    } else {
        &header.ip
    };
    node.ip = ip.into();
    node.set_ports(tls_bus, header.port, header.other_port);
    node.bus_port = header.bus_port;
}
