//! Redirections: which node of the cluster is to run a command.
//!
//! A command belongs where the slot of its keys is, and it may name keys of one slot only. Most clients know the map of
//! slots and ask the right node; who does not is told `MOVED` and asks there, for good.
//!
//! A slot that is on its way from one node to another belongs to the first until the last key is through. The first runs
//! what finds all its keys, and sends on with `ASK`, for this once, what finds none of them; the second runs what comes with
//! `ASKING`. Whoever names several keys of which some are here and some there is told to try again. MIGRATE is let through
//! on both: it is what moves the keys.
//!
//! EXEC is asked for all commands that it will run at once. A script is asked for the keys that it has declared, before it
//! begins, and then for each command that it calls. Commands of a master are not asked. A client that waits for a key when
//! the slot goes elsewhere is told so ([`Server::redirect_waiting`]), and so is one that listens to a shard channel.

use smallvec::SmallVec;

use crate::base::slot::Slot;
use crate::cluster::{Cluster, Node};
use crate::cmd::Fault;
use crate::cmd::args::Args;
use crate::cmd::keys::KeyHint;
use crate::cmd::session::Marks;
use crate::cmd::spec::Flags;
use crate::db::keyspace::Lookup;
use crate::exec::conn::{Parked, Token, Why};
use crate::exec::server::Server;
use crate::exec::table::{Command, CommandId, Needs, routed_by};

const CROSSSLOT: Fault = Fault::new("CROSSSLOT Keys in request don't hash to the same slot");
const TRYAGAIN: Fault = Fault::new("TRYAGAIN Multiple keys request during rehashing of slot");
const DOWN: Fault = Fault::new("CLUSTERDOWN The cluster is down");
const DOWN_FOR_WRITES: Fault =
    Fault::new("CLUSTERDOWN The cluster is down and only accepts read commands");
const UNBOUND: Fault = Fault::new("CLUSTERDOWN Hash slot not served");

/// Why a command does not run here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Away {
    /// Its keys are of several slots.
    CrossSlot,
    /// Some of its keys are here, some are where the slot goes.
    Torn,
    Down,
    /// The cluster is down, and the command writes.
    DownForWrites,
    /// Nobody has the slot.
    Unbound,
    /// It is another's, who is to be asked instead: for good, or just now.
    Elsewhere(Fault),
}

impl Away {
    /// What the client hears.
    pub fn fault(self) -> Fault {
        match self {
            Away::CrossSlot => CROSSSLOT,
            Away::Torn => TRYAGAIN,
            Away::Down => DOWN,
            Away::DownForWrites => DOWN_FOR_WRITES,
            Away::Unbound => UNBOUND,
            Away::Elsewhere(fault) => fault,
        }
    }

    /// `tls`: whoever is sent there speaks that.
    fn elsewhere(cluster: &Cluster, word: &str, slot: Slot, node: &Node, tls: bool) -> Away {
        let (host, port) = cluster.endpoint(node, tls);
        Away::Elsewhere(Fault::text(format!("{word} {slot} {host}:{port}")))
    }
}

/// Who asks, and for what.
struct Question<'a> {
    /// What the client, or a script, has called.
    called: CommandId,
    /// That, or what EXEC will run.
    commands: &'a [(CommandId, &'a [&'a [u8]])],
    /// Of what was called.
    flags: Flags,
    /// It may write, or a command that EXEC will run may.
    writes: bool,
    /// ASKING and READONLY matter.
    marks: Marks,
}

/// What a slot on its way has of a command's keys.
struct Moving {
    /// To us: the slot belongs to another.
    here: bool,
    several: bool,
    missing: bool,
    present: bool,
}

/// Which slot a command's keys are of.
struct Aim<'a> {
    slot: Slot,
    owner: &'a Node,
    moving: Option<Moving>,
}

impl Server {
    /// The short way of the gate: true if all is well with the cluster, and what the command names is of one slot that is here
    /// and stays.
    #[inline(never)]
    pub(super) fn is_at_home(&self, id: CommandId, args: &Args<'_>, hints: &[KeyHint]) -> bool {
        let Some(cluster) = self.cluster.as_deref() else {
            return true;
        };
        let command = self.table.get(id);
        if command.flags.has(Flags::MOVABLE_KEYS) || !cluster.is_ok() {
            return false;
        }
        let argv = args.argv();
        let Some(range) = command.key_range(argv.len()) else {
            return true;
        };
        // The keys have been hashed already, mostly, and their hashes begin with the slot.
        let slot_at = |(nth, at): (usize, usize)| match (hints.get(nth), argv.get(at)) {
            (Some(hint), Some(key)) if hint.at == key.as_ptr() => Some(Slot::of_hash(hint.hash)),
            (_, Some(key)) => Some(Slot::of(key)),
            (_, None) => None,
        };
        let mut slots = range.enumerate().map(slot_at);
        match slots.next() {
            None => true,
            Some(first) => {
                first.is_some_and(|slot| stays(cluster, slot)) && slots.all(|slot| slot == first)
            }
        }
    }

    /// Asks for a command of a client, or for all that EXEC will run, whether it runs here. `any`: its own flags, or theirs.
    pub(super) fn route(
        &mut self,
        token: Token,
        id: CommandId,
        (flags, any): (Flags, Flags),
        argv: &[&[u8]],
    ) -> Result<(), Away> {
        let (Some(cluster), Some(conn)) = (self.cluster.as_deref(), self.conns.get(token)) else {
            return Ok(());
        };
        let command = self.table.get(id);
        let one = [(id, argv)];
        let mut question = Question {
            called: id,
            commands: &one,
            flags,
            writes: any.has(Flags::WRITE),
            marks: conn.session.marks,
        };
        let slot = match (command.needs, conn.session.multi.as_deref()) {
            // (It will say itself that there is no MULTI.)
            (Needs::Exec, None) => return Ok(()),
            (Needs::Exec, Some(multi)) => {
                let queue = &multi.commands;
                let argvs: Vec<_> = queue.iter().map(|queued| queued.args.slices()).collect();
                let commands: Vec<_> = queue
                    .iter()
                    .zip(&argvs)
                    .map(|(queued, argv)| (queued.command, &argv[..]))
                    .collect();
                question.commands = &commands;
                self.way(cluster, &question)?
            }
            _ if !command.is_routed() => return Ok(()),
            _ => self.way(cluster, &question)?,
        };
        if matches!(command.needs, Needs::Exec | Needs::Script) {
            self.scripting.slot = slot;
        }
        Ok(())
    }

    fn may_write(&self, id: CommandId) -> bool {
        self.table.get(id).flags.has(Flags::WRITE)
    }

    /// A script calls nothing that another node of the cluster is to run, and stays with the slot of its keys unless it has
    /// said that it will not. The error is what it hears.
    pub(super) fn route_from_script(
        &mut self,
        id: CommandId,
        argv: &[&[u8]],
    ) -> Result<(), &'static str> {
        let (Some(cluster), Some(running)) = (
            self.cluster.as_deref(),
            self.scripting.running.as_ref().filter(|r| !r.obeyed),
        ) else {
            return Ok(());
        };
        let caller = self.conns.get(running.caller);
        let flags = self.table.get(id).flags;
        let question = Question {
            called: id,
            commands: &[(id, argv)],
            flags,
            writes: flags.has(Flags::WRITE),
            marks: caller.map(|c| c.session.marks).unwrap_or_default(),
        };
        let across_slots = running.across_slots;
        let slot = self.way(cluster, &question).map_err(|away| match away {
            Away::DownForWrites => {
                "Script attempted to execute a write command while the cluster is down and readonly"
            }
            Away::Down => "Script attempted to execute a command while the cluster is down",
            _ => "Script attempted to access a non local key in a cluster node",
        })?;
        let Some(slot) = slot.filter(|_| !across_slots) else {
            return Ok(());
        };
        match *self.scripting.slot.get_or_insert(slot) == slot {
            true => Ok(()),
            false => Err("Script attempted to access keys that do not hash to the same slot"),
        }
    }

    /// The rules. Gives the slot, if the commands name any key.
    fn way(&self, cluster: &Cluster, question: &Question<'_>) -> Result<Option<Slot>, Away> {
        let called = self.table.get(question.called).spec.name;
        let shard = matches!(called, "ssubscribe" | "sunsubscribe" | "spublish");
        let Some(aim) = self.aim(cluster, question.commands, shard)? else {
            return Ok(None);
        };
        let (slot, tls) = (aim.slot, question.marks.has(Marks::TLS));
        self.check_state(cluster, question.flags, shard)?;
        let asked = question.marks.has(Marks::ASKING) || question.flags.has(Flags::ASKING);
        if let Some(moving) = &aim.moving {
            if called == "migrate" {
                return Ok(Some(slot));
            }
            if !moving.here && moving.missing {
                let to = cluster.migrating_to(slot).filter(|_| !moving.present);
                return Err(to.map_or(Away::Torn, |node| {
                    Away::elsewhere(cluster, "ASK", slot, node, tls)
                }));
            }
            if moving.here && asked {
                return match moving.several && moving.missing {
                    true => Err(Away::Torn),
                    false => Ok(Some(slot)),
                };
            }
        }
        let reads = (question.marks.has(Marks::READONLY) || shard) && !question.writes;
        let ours = cluster.is_mine(slot) || reads && is_my_master(cluster, aim.owner);
        match ours {
            true => Ok(Some(slot)),
            false => Err(Away::elsewhere(cluster, "MOVED", slot, aim.owner, tls)),
        }
    }

    /// Whether a command with keys may run as the cluster is now.
    fn check_state(&self, cluster: &Cluster, flags: Flags, shard: bool) -> Result<(), Away> {
        let config = &self.config;
        match () {
            () if cluster.is_ok() => Ok(()),
            () if shard && config.cluster_allow_pubsubshard_when_down => Ok(()),
            () if shard || !config.cluster_allow_reads_when_down => Err(Away::Down),
            () if flags.has(Flags::WRITE) => Err(Away::DownForWrites),
            () => Ok(()),
        }
    }

    /// The slot that all keys of all these commands are of; `None` if there are no keys.
    fn aim<'a>(
        &self,
        cluster: &'a Cluster,
        commands: &[(CommandId, &[&[u8]])],
        shard: bool,
    ) -> Result<Option<Aim<'a>>, Away> {
        let mut aim: Option<(Aim<'a>, &[u8])> = None;
        for &(id, argv) in commands {
            let positions: SmallVec<[usize; 8]> = routed_by(self.table.get(id), argv);
            for key in positions.into_iter().filter_map(|at| argv.get(at).copied()) {
                let slot = Slot::of(key);
                let (aim, first) = match &mut aim {
                    Some(aim) => aim,
                    None => {
                        let owner = cluster.owner(slot).ok_or(Away::Unbound)?;
                        let moving = moving(cluster, slot);
                        aim.insert((
                            Aim {
                                slot,
                                owner,
                                moving,
                            },
                            key,
                        ))
                    }
                };
                if slot != aim.slot {
                    return Err(Away::CrossSlot);
                }
                if let Some(moving) = &mut aim.moving {
                    moving.several |= *first != key;
                    // A channel is nowhere, and stays with the slot's first node.
                    let there = !shard && self.is_there(key);
                    moving.present |= there;
                    moving.missing |= !shard && !there;
                }
            }
        }
        Ok(aim.map(|(aim, _)| aim))
    }

    fn is_there(&self, key: &[u8]) -> bool {
        let found = self.dbs.db(0).find(self.dbs.hash(key), key, self.now.ms());
        matches!(found, Lookup::Found(_))
    }

    /// Sends a client on that waits for a key whose slot is not here any more, or lets it go if the cluster is down: what it
    /// waits for would not come.
    pub fn redirect_waiting(&mut self, token: Token) {
        if let Some(away) = self.waits_in_vain(token) {
            self.give_up(token, Some(away.fault()));
        }
    }

    /// Why a client that waits for keys is not to wait here.
    fn waits_in_vain(&self, token: Token) -> Option<Away> {
        let cluster = self.cluster.as_deref()?;
        let conn = self.conns.get(token)?;
        let Parked {
            why: Why::Keys(block),
            command,
            ..
        } = conn.parked.as_deref()?
        else {
            return None;
        };
        if !cluster.is_ok() {
            return Some(Away::Down);
        }
        let slot = Slot::of(block.keys.first()?);
        let Some(owner) = cluster.owner(slot) else {
            return Some(Away::Unbound);
        };
        let reads = conn.session.marks.has(Marks::READONLY) && !self.may_write(*command);
        let here = cluster.is_mine(slot)
            || cluster.importing_from(slot).is_some()
            || reads && is_my_master(cluster, owner);
        (!here).then(|| {
            // (As with Redis, it is not asked what the client itself speaks.)
            let tls = cluster.settings().tls_bus;
            Away::elsewhere(cluster, "MOVED", slot, owner, tls)
        })
    }
}

/// True if we have the slot, and it is not on its way.
#[inline]
fn stays(cluster: &Cluster, slot: Slot) -> bool {
    let moves = || cluster.migrating_to(slot).is_some() || cluster.importing_from(slot).is_some();
    cluster.is_mine(slot) && !(cluster.is_moving_slots() && moves())
}

/// What is known of a slot on its way, before the keys are looked up.
fn moving(cluster: &Cluster, slot: Slot) -> Option<Moving> {
    let leaves = cluster.is_mine(slot) && cluster.migrating_to(slot).is_some();
    (leaves || cluster.importing_from(slot).is_some()).then_some(Moving {
        here: !leaves,
        several: false,
        missing: false,
        present: false,
    })
}

/// True if we are a replica of this node.
fn is_my_master(cluster: &Cluster, node: &Node) -> bool {
    let myself = cluster.myself();
    myself.is_replica() && myself.master == Some(node.id)
}

impl Command {
    /// True if a cluster looks at its arguments: they name keys, or channels of shards.
    fn is_routed(&self) -> bool {
        !self.spec.keys.is_empty() || self.spec.find_keys.is_some()
    }
}
