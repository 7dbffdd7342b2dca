//! What CLUSTER NODES says: a line for each node that a node knows, itself (`myself`) among them.
//!
//! ```text
//! <id> <host:port@bus-port[,hostname]> <flags> <master or -> <ping> <pong> <epoch> <link> <slot> <slot> ...
//! ```
//! A slot is a number, a range, or stands in brackets: `[7->-id]` is on its way to another node, `[7-<-id]` on its way here.

use super::slots::Slots;
use crate::base::number::leading_i64;

/// A slot that is on its way, and from or to which node; as the table has it.
pub type OpenSlot = (usize, String);

/// Where a node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: i32,
    /// 0 if it was not said.
    pub bus_port: i32,
}

impl Address {
    /// Reads `host:port@bus-port`, the last of which may be left out, or have something behind a comma.
    pub fn parse(text: &str) -> Option<Address> {
        let (text, bus) = text.rsplit_once('@').unwrap_or((text, ""));
        let (host, port) = text.rsplit_once(':')?;
        Some(Address {
            host: host.to_string(),
            port: number(port),
            bus_port: number(bus),
        })
    }
}

/// C's `atoi`.
pub fn number(text: &str) -> i32 {
    leading_i64(text.as_bytes()).0 as i32
}

/// A node of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub address: Address,
    pub flags: Vec<String>,
    /// The master of a replica.
    pub master: Option<String>,
    pub epoch: u64,
    pub slots: Slots,
    pub migrating: Vec<OpenSlot>,
    pub importing: Vec<OpenSlot>,
}

/// It is no such table. `true`: it is worth a word that an address was no address.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable(pub bool);

impl Row {
    /// Whether it is about the node that was asked.
    pub fn is_myself(&self) -> bool {
        // (A flag may only be part of a word, as in Redis's own client.)
        self.flags.iter().any(|flag| flag.contains("myself"))
    }

    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|word| word == flag)
    }

    fn parse(line: &str) -> Result<Row, Unreadable> {
        let words: Vec<&str> = line.split(' ').collect();
        let word = |at: usize| words.get(at).copied();
        // (The word that ends the line is none of those that are looked for.)
        let flags = word(2)
            .filter(|_| words.len() > 3)
            .ok_or(Unreadable(false))?;
        let address = word(1).and_then(Address::parse).ok_or(Unreadable(true))?;
        let mut row = Row {
            name: words[0].to_string(),
            address,
            flags: flags.split(',').map(str::to_string).collect(),
            master: None,
            epoch: word(6).map_or(0, |epoch| leading_i64(epoch.as_bytes()).0 as u64),
            slots: Slots::none(),
            migrating: Vec::new(),
            importing: Vec::new(),
        };
        if row.has("slave") {
            row.master = word(3).map(str::to_string);
        }
        for slot in words.iter().skip(8).filter(|word| !word.is_empty()) {
            row.take_slot(slot);
        }
        Ok(row)
    }

    fn take_slot(&mut self, text: &str) {
        let slot = |text: &str| usize::try_from(number(text)).unwrap_or(usize::MAX);
        if let Some(open) = text.strip_prefix('[') {
            let open = open.trim_end_matches(']');
            if let Some((number, to)) = open.split_once("->-") {
                self.migrating.push((slot(number), to.to_string()));
            } else if let Some((number, from)) = open.split_once("-<-") {
                self.importing.push((slot(number), from.to_string()));
            }
            return;
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let last = slot(last).min(super::slots::SLOTS - 1);
        (slot(first)..=last).for_each(|slot| self.slots.put(slot, true));
    }
}

/// The rows, read as they are asked for.
pub fn rows(text: &str) -> impl Iterator<Item = Result<Row, Unreadable>> + '_ {
    text.lines().map(Row::parse)
}

/// Who has which slots, as one string: two nodes that give the same one agree. `None` if nobody has any.
pub fn signature(text: &str) -> Option<String> {
    let mut nodes: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let slots = words.get(8..)?.iter();
            let mut slots: Vec<&str> = slots
                .copied()
                .filter(|slot| !slot.is_empty() && !slot.starts_with('['))
                .collect();
            slots.sort_unstable();
            (!slots.is_empty()).then(|| format!("{}:{}", words[0], slots.join(",")))
        })
        .collect();
    nodes.sort_unstable();
    (!nodes.is_empty()).then(|| nodes.join("|"))
}

/// The addresses of those to whom there is no connection, or who are not quite known yet.
pub fn unlinked(text: &str) -> Vec<&str> {
    let lines = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let (flags, link) = (words.get(2)?, words.get(7)?);
        let linked = !link.contains("disconnected") && !flags.contains("handshake");
        (!flags.contains("myself") && !linked).then_some(words[1])
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
        aa 10.0.0.1:7000@17000,one myself,master - 0 0 3 connected 0-2 9 [9->-bb] [4-<-cc]\n\
        bb 10.0.0.2:7000@17000 slave,fail? aa 0 5 2 connected\n\
        cc ::1:7001@8000 master - 1 2 1 disconnected 5-6 3\n";

    #[test]
    fn rows_are_read() {
        let rows: Vec<Row> = rows(TABLE).map(Result::unwrap).collect();
        let [me, replica, other] = &rows[..] else {
            panic!("{rows:?}");
        };
        assert!(me.is_myself() && !replica.is_myself());
        assert_eq!(me.slots.to_string(), "[0-2],[9]");
        assert_eq!((me.epoch, &me.master), (3, &None));
        assert_eq!(me.migrating, [(9, "bb".to_string())]);
        assert_eq!(me.importing, [(4, "cc".to_string())]);
        assert_eq!(replica.master.as_deref(), Some("aa"));
        assert!(!replica.has("fail"));
        assert_eq!(other.address, Address::parse("::1:7001@8000").unwrap());
        assert_eq!((other.address.port, other.address.bus_port), (7001, 8000));
    }

    #[test]
    fn what_is_no_table_is_no_row() {
        for (line, why) in [
            ("aa 1.1.1.1:1@2", false),
            ("", false),
            ("aa nowhere master - 0", true),
        ] {
            assert_eq!(Row::parse(line), Err(Unreadable(why)), "{line}");
        }
        let row = Row::parse("aa :0@0 master - 0 0 0 connected [ 99999-x 7- [1->-").unwrap();
        assert_eq!((row.slots.len(), row.migrating.len()), (0, 1));
    }

    #[test]
    fn nodes_agree_about_slots_in_any_order() {
        let other =
            "cc :1@1 myself - 0 0 0 connected 3 5-6\naa :0@0 master - 0 0 0 connected 9 0-2";
        assert_eq!(signature(TABLE), signature(other));
        assert_eq!(signature(TABLE).unwrap(), "aa:0-2,9|cc:3,5-6");
        assert_eq!(signature("aa :0@0 myself - 0 0 0 connected [9->-bb]"), None);
        assert_eq!(unlinked(TABLE), ["::1:7001@8000"]);
    }
}
