//! `--cluster`: the masters of a cluster, each with connections of its own.
//!
//! A key with `{tag}` in it gets the tag of a slot that the connection's master has, so that nothing has to be redirected.
//! If it is, since slots have moved, the masters are asked anew, once for all connections that noticed.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::options::Options;
use super::{Reached, Settings, reach, settings};
use crate::base::slot::Slot;
use crate::cli::cluster::table::{self, Address};
use crate::cli::out::{Stop, complain, lossy, say};
use crate::resp::value::Value;

/// What stands in a tag's place; the braces are the key's.
pub const TAG: &[u8] = b"{tag}";

/// A master that has slots.
pub struct Master {
    pub name: String,
    pub address: Address,
    pub target: super::load::Target,
    pub settings: Option<Settings>,
    /// The three bytes behind the brace.
    tag: AtomicU32,
}

/// All of them.
pub struct Masters {
    pub all: Vec<Master>,
    /// How often their slots were asked for.
    asked: AtomicU64,
    is_asking: AtomicBool,
}

const FAILED: &str = "Failed to update cluster slots configuration";

/// A short text in a slot, filled up with closing braces: what follows the first of them does not count.
fn tag_of(slot: usize) -> u32 {
    const LETTERS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let letter = |n: usize| match n % (LETTERS.len() + 1) {
        0 => b'}',
        n => LETTERS[n - 1],
    };
    let base = LETTERS.len() + 1;
    let texts = (1..base.pow(3)).map(|n| [letter(n / base / base), letter(n / base), letter(n)]);
    // The shortest come first, and a brace inside is no end.
    let found = texts
        .map(|text| {
            let start = text.iter().position(|&b| b != b'}').unwrap_or(0);
            (text, start)
        })
        .filter(|(text, start)| !text[*start..].contains(&b'}'))
        .find(|(text, start)| Slot::of(&text[*start..]).index() == slot);
    let mut bytes = [b'}'; 4];
    if let Some((text, start)) = found {
        bytes[..3 - start].copy_from_slice(&text[start..]);
    }
    u32::from_ne_bytes(bytes)
}

impl Master {
    fn new(name: String, address: Address, options: &Options, slot: usize) -> Result<Master, Stop> {
        let Reached {
            mut link, target, ..
        } = reach(options, Some(&address))?;
        Ok(Master {
            settings: settings(&mut link, &place(&address))?,
            name,
            address,
            target,
            tag: AtomicU32::new(tag_of(slot)),
        })
    }

    /// The tag for its keys.
    pub fn tag(&self) -> [u8; 3] {
        let [a, b, c, _] = self.tag.load(Relaxed).to_ne_bytes();
        [a, b, c]
    }

    /// `host:port`
    pub fn place(&self) -> String {
        place(&self.address)
    }
}

fn place(address: &Address) -> String {
    format!("{}:{}", address.host, address.port)
}

impl Masters {
    /// Asks the server of the options for the masters, and says who they are.
    pub fn find(options: &Options) -> Result<Masters, Stop> {
        let Reached { mut link, name, .. } = reach(options, None)?;
        let failed = |why: Option<String>| {
            if let Some(why) = why {
                complain!("{why}\n");
            }
            complain!("Failed to fetch cluster configuration from {name}\n");
            Stop(1)
        };
        let text = match link.command(&["CLUSTER", "NODES"]) {
            Ok(Value::Error(words)) => {
                let words = lossy(&words);
                let why = format!("Cluster node {name} replied with error:\n{words}");
                return Err(failed(Some(why)));
            }
            Ok(reply) => lossy(reply.as_bytes().unwrap_or_default()).into_owned(),
            Err(_) => return Err(failed(None)),
        };
        let mut found = Vec::new();
        for row in table::rows(&text) {
            let row = row.map_err(|unreadable| {
                let missing = if unreadable.0 { "addr" } else { "flags" };
                failed(Some(format!(
                    "Invalid CLUSTER NODES reply: missing {missing}."
                )))
            })?;
            if row.has("slave") {
                continue;
            }
            let mut address = row.address.clone();
            // (A node that nobody has met does not know its own.)
            if row.is_myself() && address.host.is_empty() {
                address.host = lossy(&options.place.host).into_owned();
            }
            match row.slots.iter().next() {
                Some(slot) => found.push((row.name, address, slot)),
                None => complain!(
                    "WARNING: Master node {} has no slots, skipping...\n",
                    place(&address)
                ),
            }
        }
        if found.is_empty() {
            return Err(failed(None));
        }
        Masters::introduce(found, options)
    }

    fn introduce(found: Vec<(String, Address, usize)>, options: &Options) -> Result<Masters, Stop> {
        if found.len() == 1 {
            complain!("Invalid cluster: {} node(s).\n", found.len());
            return Err(Stop(1));
        }
        say!("Cluster has {} master nodes:\n\n", found.len());
        let mut all = Vec::new();
        for (at, (name, address, slot)) in found.into_iter().enumerate() {
            let place = place(&address);
            say!("Master {at}: {name} {place}\n");
            let master = Master::new(name, address, options, slot)?;
            if master.settings.is_none() {
                complain!("WARNING: Could not fetch node CONFIG {place}\n");
            }
            all.push(master);
        }
        say!("\n");
        Ok(Masters {
            all,
            asked: AtomicU64::new(0),
            is_asking: AtomicBool::new(false),
        })
    }

    /// How often slots were asked for until now.
    pub fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }

    /// Asks for the slots again, unless that has been done since `seen` or is being done.
    pub fn ask_again(&self, options: &Options, seen: u64) -> Result<(), Stop> {
        if seen < self.asked() || self.is_asking.swap(true, Relaxed) {
            return Ok(());
        }
        let asked = self.update(options);
        self.is_asking.store(false, Relaxed);
        asked
    }

    fn update(&self, options: &Options) -> Result<(), Stop> {
        complain!("WARNING: Cluster slots configuration changed, fetching new one...\n");
        let first = self.all.first().ok_or(Stop(1))?;
        let mut link = reach(options, Some(&first.address))?.link;
        let ranges = match link.command(&["CLUSTER", "SLOTS"]) {
            Ok(Value::Array(ranges)) => ranges,
            Ok(Value::Error(words)) => {
                complain!("{FAILED}\nCLUSTER SLOTS ERROR: {}\n", lossy(&words));
                return Err(Stop(1));
            }
            _ => return Err(Stop(1)),
        };
        let mut is_done = vec![false; self.all.len()];
        for range in &ranges {
            let (slot, name) = owner(range).ok_or(Stop(1))?;
            let Some(at) = self.all.iter().position(|master| master.name == name) else {
                complain!(
                    "{FAILED}: could not find node with ID {name} in current configuration.\n"
                );
                return Err(Stop(1));
            };
            // The first range of each does.
            if !std::mem::replace(&mut is_done[at], true) {
                self.all[at].tag.store(tag_of(slot), Relaxed);
            }
        }
        self.asked.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// The first slot of a range of CLUSTER SLOTS, and the ID of its master.
fn owner(range: &Value) -> Option<(usize, String)> {
    let Value::Array(parts) = range else {
        return None;
    };
    match (parts.first()?, parts.get(2)?) {
        (Value::Int(first), Value::Array(master)) => {
            let name = lossy(master.get(2)?.as_bytes()?).into_owned();
            Some((usize::try_from(*first).ok()?, name))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_tag() {
        for slot in [0, 1, 3, 5461, 10923, 16383] {
            let [a, b, c, _] = tag_of(slot).to_ne_bytes();
            let key = [b"key:{", &[a, b, c][..], b"}:1"].concat();
            assert_eq!(Slot::of(&key).index(), slot, "{}", lossy(&key));
        }
        // As Redis's tool has them.
        let tag = |slot| tag_of(slot).to_ne_bytes();
        assert_eq!((tag(0), tag(1)), (*b"06S}", *b"Qi}}"));
    }
}
