//! `import`: the keys of a server that is no part of a cluster move, or are copied, into one.

use super::super::link::{Address as Target, Link};
use super::super::out::{complain, lossy, say};
use super::super::session::Failed;
use super::table::{Address, number};
use super::tell::{bad, good, step, warning};
use super::{Cluster, NodeAt, address, migrate_login};
use crate::base::slot::{SLOTS, Slot};
use crate::resp::value::Value;

/// Keys that are asked for at a time.
const SCAN_COUNT: &str = "1000";

/// The server that the keys come from.
struct Source {
    place: String,
    link: Link,
}

impl Source {
    /// Connects and logs in.
    fn connect(
        from: &Address,
        user: Option<&[u8]>,
        password: Option<&[u8]>,
    ) -> Result<Source, Failed> {
        let place = format!("{}:{}", from.host, from.port);
        let port = u16::try_from(from.port).unwrap_or(0);
        let link = Link::connect(&Target::Tcp(from.host.as_bytes(), port));
        let mut link = link.map_err(|why| {
            complain!("Could not connect to Redis at {place}: {why}.\n");
            Failed
        })?;
        if let Some(password) = password {
            let words = [Some(&b"AUTH"[..]), user, Some(password)];
            let words: Vec<&[u8]> = words.into_iter().flatten().collect();
            match link.command(&words) {
                Ok(Value::Error(words)) => {
                    complain!("AUTH failed: {}\n", lossy(&words));
                    return Err(Failed);
                }
                Ok(_) => {}
                Err(_) => {
                    complain!("\nI/O error\n");
                    return Err(Failed);
                }
            }
        }
        Ok(Source { place, link })
    }

    fn ask<T: AsRef<[u8]>>(&mut self, args: &[T]) -> Result<Value, Failed> {
        match self.link.command(args) {
            Ok(Value::Error(words)) => {
                let words = lossy(&words);
                bad!("Source {} replied with error:\n{words}\n", self.place);
                Err(Failed)
            }
            Ok(value) => Ok(value),
            Err(error) => {
                complain!("Error: {error}\n");
                Err(Failed)
            }
        }
    }

    /// The keys at a place of the walk, and the next place.
    fn scan(&mut self, cursor: &[u8]) -> Result<(Vec<u8>, Vec<Value>), Failed> {
        match self.ask(&[b"SCAN", cursor, b"COUNT", SCAN_COUNT.as_bytes()])? {
            Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
                Ok([Value::Bulk(next), Value::Array(keys)]) => Ok((next, keys)),
                _ => Err(Failed),
            },
            _ => Err(Failed),
        }
    }
}

/// `import`.
pub fn import(cluster: &mut Cluster) -> Result<(), Failed> {
    let known = cluster.named()?;
    let from = source_address(cluster)?;
    step!(
        ">>> Importing data from {}:{} to cluster {}:{}\n",
        from.host,
        from.port,
        known.host,
        known.port
    );
    cluster.load(known)?;
    if !cluster.check(false)? {
        return Err(Failed);
    }
    let (user, password) = (
        cluster.options.from_user.clone(),
        cluster.options.from_password.clone(),
    );
    let mut source = Source::connect(&from, user.as_deref(), password.as_deref())?;
    let info = source.ask(&["INFO"])?;
    let info = lossy(info.as_bytes().unwrap_or_default());
    let mut enabled = info
        .lines()
        .filter_map(|line| line.strip_prefix("cluster_enabled:"));
    if enabled.next().is_some_and(|value| number(value) != 0) {
        bad!("[ERR] The source node should not be a cluster node.\n");
        return Err(Failed);
    }
    let size = match source.ask(&["DBSIZE"])? {
        Value::Int(size) => size,
        _ => 0,
    };
    warning!("*** Importing {size} keys from DB 0\n");
    let owners = cluster.owners();
    let mut cursor = b"0".to_vec();
    loop {
        let (next, keys) = source.scan(&cursor)?;
        for key in keys.iter().filter_map(Value::as_bytes) {
            let owner = owners.get(Slot::of(key).index()).copied().flatten();
            cluster.import_key(&mut source, key, owner.ok_or(Failed)?)?;
        }
        if next == b"0" {
            return Ok(());
        }
        cursor = next;
    }
}

fn source_address(cluster: &Cluster) -> Result<Address, Failed> {
    let Some(from) = &cluster.options.from else {
        complain!("[ERR] Option '--cluster-from' is required for subcommand 'import'.\n");
        return Err(Failed);
    };
    address(from).ok_or_else(|| {
        complain!(
            "[ERR] Invalid --cluster-from host. You need to pass a valid address (ie. 120.0.0.1:7000).\n"
        );
        Failed
    })
}

impl Cluster {
    /// Whose each slot is.
    fn owners(&self) -> Vec<Option<NodeAt>> {
        let masters = self.masters();
        let owner = |slot| {
            masters
                .iter()
                .copied()
                .find(|&at| self.nodes[at].slots.has(slot))
        };
        (0..SLOTS).map(owner).collect()
    }

    fn import_key(&self, source: &mut Source, key: &[u8], owner: NodeAt) -> Result<(), Failed> {
        let Address { host, port, .. } = &self.nodes[owner].address;
        say!("Migrating {} to {host}:{port}: ", lossy(key));
        let (port, timeout) = (port.to_string(), self.options.timeout_ms.to_string());
        let mut args: Vec<&[u8]> = vec![
            b"MIGRATE",
            host.as_bytes(),
            port.as_bytes(),
            key,
            b"0",
            timeout.as_bytes(),
        ];
        args.extend(migrate_login(&self.login));
        if self.options.copy {
            args.push(b"COPY");
        }
        if self.options.replace {
            args.push(b"REPLACE");
        }
        source.ask(&args)?;
        good!("OK\n");
        Ok(())
    }
}
