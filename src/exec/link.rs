//! Links: the connections that we open ourselves, to a master, to the target of a MIGRATE, to a node of the cluster; and those
//! that other nodes open to our bus.
//!
//! A link is a [`Conn`] like any other: its output gathers in `reply` and leaves with everybody's, its input is read in
//! turn with everybody's. But nobody parses that input for commands: it is handed to the link's [`Owner`] as it comes.
//!
//! ```text
//! open_link ──▶ Effect::Connect ──▶ names are looked up, addresses tried, one after the other
//!                                      │                      │
//!                              News::Connected            none answers
//!                              News::Data ...                 │
//!                                      └──────▶ News::Closed ◀┘
//! ```
//! What the owner writes before the link is up waits for it. The owner hears once that the link is gone, unless it
//! closed it itself; the connection is still there at that moment, to be looked at a last time. How long anything may
//! take is the owner's to know: a link waits for ever.
//!
//! A link is no client: it is not counted, not listed, not evicted. One to a master becomes a client of a kind once the
//! stream of commands begins, see [`Server::adopt_link`].

use crate::cmd::session::Marks;
use crate::exec::conn::{Conn, Peer, Token};
use crate::exec::io::Io;
use crate::exec::server::{Effect, Server};

/// Who hears of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The master's, see `server/follow.rs`.
    Master,
    Migrate,
    /// What a Sentinel watches, see `server/sentinel.rs`.
    Sentinel,
    /// Another node of the cluster, see `server/bus.rs`. It may have connected itself.
    Bus,
    /// A test that notes what it hears.
    #[cfg(test)]
    Test,
}

/// What an owner hears.
#[derive(Debug)]
pub enum News<'a> {
    /// The other side has answered.
    Connected,
    /// These bytes have come.
    Data(&'a [u8]),
    /// It is over: the system's words for the reason, `None` if the other side hung up.
    Closed(Option<String>),
}

/// Where a link goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address.
    pub host: String,
    pub port: u16,
    /// The address of ours that it comes from, as far as that can be had (`bind-source-addr`); empty: any.
    pub source: String,
    /// TLS is spoken there.
    pub tls: bool,
}

/// What a connection has beyond others if it is a link.
#[derive(Debug)]
pub struct Link {
    pub owner: Owner,
    /// Tells it from all other links, also from those that had the same token before.
    pub serial: u64,
    /// An address was called.
    pub is_called: bool,
    /// What TLS calls the other side, if the link speaks it.
    pub tls: Option<Box<str>>,
    /// Why it is over.
    why: Option<String>,
}

/// What the server knows of its links.
#[derive(Debug, Default)]
pub struct Links {
    /// How many were ever opened.
    serial: u64,
    /// Those that are over and whose owners do not know yet.
    lost: Vec<Token>,
    #[cfg(test)]
    pub heard: Vec<String>,
}

impl Link {
    /// One that another node of the cluster has opened.
    pub fn of_bus(serial: u64) -> Link {
        Link {
            owner: Owner::Bus,
            serial,
            is_called: true,
            tls: None,
            why: None,
        }
    }
}

impl Links {
    /// The number of one that is opened.
    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// True if an owner is to hear something before the loop may sleep.
    pub fn have_news(&self) -> bool {
        !self.lost.is_empty()
    }
}

impl Server {
    /// Opens a link. It has a token from now on, and its owner hears the rest.
    pub fn open_link(&mut self, owner: Owner, target: Target) -> Token {
        let serial = self.links.next_serial();
        let mut conn = Conn::new(0, Peer::default(), self.now.s());
        conn.session.marks.set(Marks::LINK | Marks::OPENING, true);
        conn.session.marks.set(Marks::TLS, target.tls);
        // The first room to write comes with the connection.
        conn.write_blocked = true;
        conn.link = Some(Box::new(Link {
            owner,
            serial,
            is_called: false,
            tls: target.tls.then(|| target.host.as_str().into()),
            why: None,
        }));
        let token = self.conns.insert(conn);
        self.effects.push(Effect::Connect {
            token,
            serial,
            target,
        });
        token
    }

    /// True if this is still the link with that serial, and it is not up yet.
    pub fn is_opening(&self, token: Token, serial: u64) -> bool {
        self.conns.get(token).is_some_and(|conn| {
            let marks = conn.session.marks;
            marks.has(Marks::OPENING)
                && !marks.has(Marks::CLOSE_ASAP)
                && conn.link.as_ref().is_some_and(|l| l.serial == serial)
        })
    }

    /// The network calls an address for a link.
    pub fn link_called(&mut self, token: Token) {
        let Some(link) = self.conns.get_mut(token).and_then(|c| c.link.as_mut()) else {
            return;
        };
        link.is_called = true;
        if link.owner == Owner::Master
            && let Some(following) = &mut self.repl.following
            && following.token == Some(token)
        {
            following.link.called();
        }
    }

    /// The network has connected a link.
    pub fn link_connected(&mut self, io: &mut dyn Io, token: Token, peer: Peer) {
        let now_s = self.now.s();
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        conn.session.marks.set(Marks::OPENING, false);
        conn.write_blocked = false;
        *conn.peer = peer;
        conn.active_s = now_s;
        self.tell_owner(io, token, News::Connected);
        self.wants_write(token);
    }

    /// Bytes have come on a link.
    #[cold]
    pub fn feed_link(&mut self, io: &mut dyn Io, token: Token, data: &[u8]) {
        self.tell_owner(io, token, News::Data(data));
        self.wants_write(token);
    }

    /// A connection is over because of an error. Of a link, the owner will hear it; of a client, nobody needs to.
    pub fn lose(&mut self, token: Token, why: String) {
        if let Some(conn) = self.conns.get_mut(token)
            && let Some(link) = &mut conn.link
        {
            link.why = Some(why);
        }
        self.disconnect(token);
    }

    /// Closes a link that its owner wants no more: nobody hears of it again.
    pub fn close_link(&mut self, token: Token) {
        if let Some(conn) = self.conns.get_mut(token) {
            conn.link = None;
        }
        self.disconnect(token);
    }

    /// From here on what a link brings are commands, run as a master's: without questions and without replies. It is a
    /// client now, with an id, and is shown where clients are.
    pub fn adopt_link(&mut self, token: Token) {
        let id = self.next_client_id;
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        self.next_client_id += 1;
        conn.session.id = id;
        conn.session.authenticated = true;
        conn.session.marks.set(Marks::LINK, false);
        conn.session.marks.set(Marks::MASTER, true);
        self.conns.note_adopted();
    }

    /// A connection that is let go was a link: its owner will hear, and then the socket goes.
    pub(super) fn note_lost_link(&mut self, token: Token) {
        self.links.lost.push(token);
        let link = self.conns.get(token).and_then(|c| c.link.as_ref());
        if link.is_some_and(|l| matches!(l.owner, Owner::Master))
            && let Some(following) = self.repl.following.as_mut()
        {
            following.link.cut(self.now.ms());
        }
    }

    /// Tells the owners of links that are over.
    pub fn tell_lost_links(&mut self, io: &mut dyn Io) {
        for token in std::mem::take(&mut self.links.lost) {
            let link = self.conns.get_mut(token).and_then(|c| c.link.as_mut());
            // It may have been closed by its owner meanwhile.
            let why = link.and_then(|l| l.why.take());
            self.tell_owner(io, token, News::Closed(why));
            self.effects.push(Effect::Close(token));
        }
    }

    fn tell_owner(&mut self, io: &mut dyn Io, token: Token, news: News<'_>) {
        let conn = self.conns.get(token);
        let Some(owner) = conn.and_then(|c| c.link.as_ref()).map(|l| l.owner) else {
            return;
        };
        match owner {
            Owner::Master => self.hear_master(io, token, news),
            Owner::Migrate => self.migration_news(io, token, news),
            Owner::Sentinel => self.hear_watched(io, token, news),
            Owner::Bus => self.hear_bus(io, token, news),
            #[cfg(test)]
            Owner::Test => {
                self.links.heard.push(format!("{} {news:?}", token.0));
            }
        }
    }
}
