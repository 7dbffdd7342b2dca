//! A node of a cluster, as its own line of CLUSTER NODES describes it, and the connection to it.

use super::super::link::{Address as Target, Link};
use super::super::out::{complain, lossy};
use super::super::session::Failed;
use super::super::uri::Place;
use super::slots::Slots;
use super::table::{self, Address, OpenSlot, Row, Unreadable};
use super::tell::bad;
use crate::resp::value::Value;

/// The bus listens so far above the port, unless configured otherwise.
pub const BUS_OFFSET: i32 = 10_000;

/// See the head of the file.
pub struct Node {
    pub address: Address,
    /// Its ID; empty until it was asked.
    pub name: String,
    pub flags: Vec<String>,
    /// It is a replica, as it says or as another does.
    pub is_replica: bool,
    /// Another cannot reach it.
    pub is_gone: bool,
    /// The ID of its master.
    pub master: Option<String>,
    pub epoch: u64,
    pub slots: Slots,
    pub migrating: Vec<OpenSlot>,
    pub importing: Vec<OpenSlot>,
    /// How many replicate it.
    pub replicas: usize,
    /// What is planned for it, and not sent yet.
    pub is_dirty: bool,
    link: Option<Link>,
}

/// Why a node did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The connection is no more.
    Lost,
    /// With these words.
    Words(String),
}

impl Refusal {
    /// The words, if any.
    pub fn words(&self) -> Option<&str> {
        match self {
            Refusal::Lost => None,
            Refusal::Words(words) => Some(words),
        }
    }
}

impl Node {
    /// A node of which nothing is known but where it is.
    pub fn at(mut address: Address) -> Node {
        if address.bus_port == 0 {
            address.bus_port = address.port.saturating_add(BUS_OFFSET);
        }
        Node {
            address,
            name: String::new(),
            flags: Vec::new(),
            is_replica: false,
            is_gone: false,
            master: None,
            epoch: 0,
            slots: Slots::none(),
            migrating: Vec::new(),
            importing: Vec::new(),
            replicas: 0,
            is_dirty: false,
            link: None,
        }
    }

    /// `host:port`
    pub fn place(&self) -> String {
        format!("{}:{}", self.address.host, self.address.port)
    }

    /// Whether slots may be asked of it.
    pub fn is_master(&self) -> bool {
        !self.is_replica && self.master.is_none()
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// The connection, for good.
    pub fn take_link(&mut self) -> Option<Link> {
        self.link.take()
    }

    /// Connects and logs in.
    pub fn connect(&mut self, login: &Place) -> Result<(), Failed> {
        let port = u16::try_from(self.address.port).unwrap_or(0);
        let target = Target::Tcp(self.address.host.as_bytes(), port);
        let connected = Link::connect(&target);
        match connected.and_then(|link| link.secure_if_wanted(&login.tls)) {
            Ok(link) => self.link = Some(link),
            Err(why) => {
                complain!("Could not connect to Redis at {}: {why}\n", self.place());
                return Err(Failed);
            }
        }
        let Some(password) = &login.password else {
            return Ok(());
        };
        match &login.user {
            None => self.demand(&[b"AUTH", &password[..]])?,
            Some(user) => self.demand(&[b"AUTH", &user[..], password])?,
        };
        Ok(())
    }

    /// Sends a command. Gives its reply, unless it is an error.
    pub fn ask<T: AsRef<[u8]>>(&mut self, args: &[T]) -> Result<Value, Refusal> {
        match self.reply(args).ok_or(Refusal::Lost)? {
            Value::Error(words) => Err(Refusal::Words(lossy(&words).into_owned())),
            value => Ok(value),
        }
    }

    /// Sends a command. Gives its reply, an error too; `None` if there is none.
    pub fn reply<T: AsRef<[u8]>>(&mut self, args: &[T]) -> Option<Value> {
        self.link.as_mut()?.command(args).ok()
    }

    /// Sends a command, and says so if the reply is an error.
    pub fn demand<T: AsRef<[u8]>>(&mut self, args: &[T]) -> Result<Value, Failed> {
        self.ask(args).map_err(|refusal| self.report(&refusal))
    }

    /// Says why it refused.
    pub fn report(&self, refusal: &Refusal) -> Failed {
        if let Some(words) = refusal.words() {
            bad!("Node {} replied with error:\n{words}\n", self.place());
        }
        Failed
    }

    /// Sends CLUSTER with what follows it.
    pub fn cluster(&mut self, words: &[&str]) -> Result<Value, Refusal> {
        self.ask(&[&["CLUSTER"], words].concat())
    }

    /// Sends a command whose reply is a text.
    pub fn text(&mut self, args: &[&str]) -> Result<String, Refusal> {
        let reply = self.ask(args)?;
        Ok(lossy(reply.as_bytes().unwrap_or_default()).into_owned())
    }

    /// A number of INFO or CLUSTER INFO; 0 if it is not there.
    pub fn figure(&mut self, command: &[&str], name: &str) -> Result<i64, Refusal> {
        let text = self.text(command)?;
        let mut values = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(values.next().map_or(0, |value| table::number(value).into()))
    }

    /// Whether it is configured for a cluster; if not, that is said.
    pub fn demand_cluster(&mut self) -> Result<(), Failed> {
        let why = match self.figure(&["INFO"], "cluster_enabled") {
            Ok(0) | Err(Refusal::Lost) => "is not configured as a cluster node.".to_string(),
            Ok(_) => return Ok(()),
            Err(Refusal::Words(words)) => words,
        };
        bad!("[ERR] Node {} {why}\n", self.place());
        Err(Failed)
    }

    /// Whether it has no key and knows no other node; if not, that is said.
    pub fn demand_empty(&mut self) -> Result<(), Failed> {
        let why = match self.is_empty() {
            Ok(true) => return Ok(()),
            Ok(false) | Err(Refusal::Lost) => {
                "is not empty. Either the node already knows other nodes (check with CLUSTER NODES) or contains some \
                 key in database 0."
                    .to_string()
            }
            Err(Refusal::Words(words)) => words,
        };
        bad!("[ERR] Node {} {why}\n", self.place());
        Err(Failed)
    }

    fn is_empty(&mut self) -> Result<bool, Refusal> {
        Ok(!self.text(&["INFO"])?.contains("db0:")
            && self.figure(&["CLUSTER", "INFO"], "cluster_known_nodes")? == 1)
    }

    /// Reads what it says of itself.
    pub fn load(&mut self) -> Result<(), Failed> {
        let text = self.table()?;
        for row in table::rows(&text) {
            let row = row.map_err(complain_of)?;
            if row.is_myself() {
                self.take(row);
                break;
            }
        }
        Ok(())
    }

    /// The same, and gives the others that it knows.
    pub fn load_with_others(&mut self) -> Result<Vec<Node>, Failed> {
        let text = self.table()?;
        let mut others = Vec::new();
        for row in table::rows(&text) {
            let row = row.map_err(complain_of)?;
            if row.is_myself() {
                self.take(row);
            } else {
                let mut other = Node::at(row.address.clone());
                other.take(row);
                others.push(other);
            }
        }
        Ok(others)
    }

    fn table(&mut self) -> Result<String, Failed> {
        self.text(&["CLUSTER", "NODES"])
            .map_err(|refusal| self.report(&refusal))
    }

    /// Takes what a row says. (Of flags that others have seen, those that matter stay.)
    fn take(&mut self, row: Row) {
        if row.is_myself() {
            self.address.bus_port = row.address.bus_port;
            self.slots = row.slots.clone();
            self.is_dirty = false;
            self.migrating = row.migrating.clone();
            self.importing = row.importing.clone();
        }
        self.is_replica |= row.has("slave");
        self.is_gone |= ["noaddr", "disconnected", "fail"]
            .iter()
            .any(|flag| row.has(flag));
        self.name = row.name;
        self.master = row.master.or(self.master.take());
        self.epoch = row.epoch;
        self.flags = row.flags;
    }

    /// The flags but `myself`.
    fn shown_flags(&self) -> String {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let shown = flags.iter().filter(|flag| **flag != "myself").copied();
        shown.collect::<Vec<_>>().join(",")
    }

    /// What it is, over a few lines, `indent` blanks ahead of each. (Only the first has none where Redis has none.)
    pub fn describe(&self, indent: usize) -> String {
        let blanks = " ".repeat(indent);
        let mut text = match (&self.master, self.is_dirty) {
            (Some(_), true) => format!("{blanks}S: {} {}", self.name, self.place()),
            _ => format!(
                "{blanks}{}: {} {}\n{blanks}   slots:{} ({} slots) {}",
                if self.is_replica { "S" } else { "M" },
                self.name,
                self.place(),
                self.slots,
                self.slots.len(),
                self.shown_flags()
            ),
        };
        match &self.master {
            Some(master) => text += &format!("\n{blanks}   replicates {master}"),
            None if self.replicas > 0 => {
                text += &format!("\n{blanks}   {} additional replica(s)", self.replicas);
            }
            None => {}
        }
        text
    }

    /// The same as JSON, for a backup.
    pub fn json(&self, errors: usize) -> String {
        let master = self.master.as_ref().map(|id| format!("\"{id}\""));
        let mut json = format!(
            "  {{\n    \"name\": \"{}\",\n    \"host\": \"{}\",\n    \"port\": {},\n    \"replicate\": {},\n    \
             \"slots\": [{}],\n    \"slots_count\": {},\n    \"flags\": \"{}\",\n    \"current_epoch\": {}",
            self.name,
            self.address.host,
            self.address.port,
            master.as_deref().unwrap_or("null"),
            self.slots.to_string().replace('-', ","),
            self.slots.len(),
            self.shown_flags(),
            self.epoch
        );
        if errors > 0 {
            json += &format!(",\n    \"cluster_errors\": {errors}");
        }
        for (what, open) in [
            ("migrating", &self.migrating),
            ("importing", &self.importing),
        ] {
            let slots = open
                .iter()
                .map(|(slot, node)| format!("\"{slot}\": \"{node}\""));
            let slots: Vec<String> = slots.collect();
            if !slots.is_empty() {
                json += &format!(",\n    \"{what}\": {{{}}}", slots.join(","));
            }
        }
        json + "\n  }"
    }
}

fn complain_of(unreadable: Unreadable) -> Failed {
    if unreadable.0 {
        complain!("Error: invalid CLUSTER NODES reply\n");
    }
    Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(line: &str) -> Node {
        let row = table::rows(line).next().unwrap().unwrap();
        let mut node = Node::at(row.address.clone());
        node.take(row);
        node
    }

    #[test]
    fn a_node_is_described_as_redis_does() {
        let mut master = node("aa 1.1.1.1:1@9 myself,master - 0 0 7 connected 0-2 4 [4->-bb]");
        master.replicas = 1;
        assert_eq!(
            master.describe(2),
            "  M: aa 1.1.1.1:1\n     slots:[0-2],[4] (4 slots) master\n     1 additional replica(s)"
        );
        assert_eq!(
            master.json(1),
            "  {\n    \"name\": \"aa\",\n    \"host\": \"1.1.1.1\",\n    \"port\": 1,\n    \"replicate\": null,\n    \
             \"slots\": [[0,2],[4]],\n    \"slots_count\": 4,\n    \"flags\": \"master\",\n    \"current_epoch\": 7,\n    \
             \"cluster_errors\": 1,\n    \"migrating\": {\"4\": \"bb\"}\n  }"
        );
        let mut replica = node("bb 1.1.1.2:1@9 myself,slave aa 0 0 7 connected");
        assert_eq!(
            replica.describe(0),
            "S: bb 1.1.1.2:1\n   slots: (0 slots) slave\n   replicates aa"
        );
        replica.is_dirty = true;
        assert_eq!(replica.describe(0), "S: bb 1.1.1.2:1\n   replicates aa");
    }

    #[test]
    fn what_others_have_seen_stays() {
        let mut seen = node("cc 1.1.1.3:1@9 slave,fail aa 0 0 7 connected");
        assert!(seen.is_gone && seen.slots.is_empty());
        let own = "cc 1.1.1.3:1@5 myself,master - 0 0 8 connected 5";
        seen.take(table::rows(own).next().unwrap().unwrap());
        assert!(seen.is_gone && seen.is_replica && !seen.is_master());
        assert_eq!((seen.slots.len(), seen.address.bus_port), (1, 5));
    }
}
