//! CLUSTER, as far as it changes something: who is in the cluster, who has which slot, who follows whom.

use super::{DISABLED, INVALID_SLOT_ARG};
use crate::base::errno;
use crate::base::number::parse_i64;
use crate::base::slot::Slot;
use crate::cluster::conf::BUS_PORT_STEP;
use crate::cluster::{Cluster, How, SetSlot};
use crate::cmd::fault::{Fault, NOT_INTEGER, SYNTAX};
use crate::cmd::{Args, CmdResult, DONE, is_word};
use crate::exec::Call;

/// Something for the machine, and what it says to it.
pub(super) fn with<R>(call: &mut Call<'_>, f: impl FnOnce(&mut Cluster) -> R) -> Result<R, Fault> {
    call.server.with_cluster(call.io, f).ok_or(DISABLED)
}

/// The same for an order that may be refused; replies OK.
fn order(call: &mut Call<'_>, f: impl FnOnce(&mut Cluster) -> Result<(), String>) -> CmdResult {
    with(call, f)?.map_err(refusal)?;
    call.reply().ok();
    DONE
}

/// What a client hears of a refusal.
pub(super) fn refusal(why: String) -> Fault {
    Fault::text(format!("ERR {why}"))
}

fn slot(word: &[u8]) -> Result<Slot, Fault> {
    let number = parse_i64(word).and_then(|n| u64::try_from(n).ok());
    number.and_then(Slot::new).ok_or(INVALID_SLOT_ARG)
}

/// CLUSTER ADDSLOTS slot [slot ...]
pub(super) fn addslots(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    assign(call, &args, 1, true)
}

/// CLUSTER ADDSLOTSRANGE first last [first last ...]
pub(super) fn addslotsrange(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    assign(call, &args, 2, true)
}

/// CLUSTER DELSLOTS slot [slot ...]
pub(super) fn delslots(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    assign(call, &args, 1, false)
}

/// CLUSTER DELSLOTSRANGE first last [first last ...]
pub(super) fn delslotsrange(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    assign(call, &args, 2, false)
}

/// Slots in groups of so many words: a slot, or a range.
fn assign(call: &mut Call<'_>, args: &Args<'_>, words: usize, add: bool) -> CmdResult {
    with(call, |_| ())?;
    let given = args.argv().get(2..).unwrap_or_default();
    if !given.len().is_multiple_of(words) {
        let name = String::from_utf8_lossy(args.argv()[1]).to_ascii_lowercase();
        return Err(Fault::text(format!(
            "ERR wrong number of arguments for 'cluster|{name}' command"
        )));
    }
    let mut ranges = Vec::new();
    for group in given.chunks(words) {
        let [first, .., last] = group else {
            let only = slot(group[0])?;
            ranges.push((only, only));
            continue;
        };
        let (first, last) = (slot(first)?, slot(last)?);
        if first > last {
            return Err(Fault::text(format!(
                "ERR start slot number {first} is greater than end slot number {last}"
            )));
        }
        ranges.push((first, last));
    }
    order(call, |cluster| cluster.assign(&ranges, add))
}

/// CLUSTER BUMPEPOCH
pub(super) fn bumpepoch(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let (bumped, epoch) = with(call, |cluster| {
        (cluster.bump_epoch(), cluster.myself().config_epoch)
    })?;
    let word = if bumped { "BUMPED" } else { "STILL" };
    call.reply().status(format!("{word} {epoch}"));
    DONE
}

/// CLUSTER FAILOVER [FORCE | TAKEOVER]
pub(super) fn failover(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    with(call, |_| ())?;
    let how = match args.argv() {
        [_, _] => How::Agreed,
        [_, _, word] if is_word(word, "force") => How::Force,
        [_, _, word] if is_word(word, "takeover") => How::Takeover,
        [_, _, _] => return Err(SYNTAX),
        _ => return Err(call.wrong_form(&args)),
    };
    order(call, |cluster| cluster.fail_over(how))
}

/// CLUSTER FLUSHSLOTS
pub(super) fn flushslots(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let is_empty = call.server.dbs.db(0).is_empty();
    order(call, |cluster| {
        if !is_empty {
            return Err("DB must be empty to perform CLUSTER FLUSHSLOTS.".into());
        }
        cluster.flush_slots();
        Ok(())
    })
}

/// CLUSTER FORGET node
pub(super) fn forget(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    order(call, |cluster| cluster.forget(args.argv()[2]))
}

/// CLUSTER MEET ip port [bus-port]
pub(super) fn meet(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    with(call, |_| ())?;
    let argv = args.argv();
    let shown = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    let number = |word: &[u8], what: &str| {
        let invalid = || refusal(format!("Invalid {what} port specified: {}", shown(word)));
        parse_i64(word).ok_or_else(invalid)
    };
    let port = number(argv[3], "base")?;
    let bus_port = match argv {
        [_, _, _, _, bus_port] => number(bus_port, "bus")?,
        [_, _, _, _] => port.saturating_add(i64::from(BUS_PORT_STEP)),
        _ => return Err(call.wrong_form(&args)),
    };
    let ip = shown(argv[2]);
    order(call, |cluster| match cluster.meet(&ip, port, bus_port) {
        true => Ok(()),
        false => Err(format!(
            "Invalid node address specified: {ip}:{}",
            shown(argv[3])
        )),
    })
}

/// CLUSTER REPLICATE node
pub(super) fn replicate(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    order(call, |cluster| cluster.replicate(args.argv()[2]))
}

/// CLUSTER RESET [HARD | SOFT]
pub(super) fn reset(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    with(call, |_| ())?;
    let hard = match args.argv() {
        [_, _] => false,
        [_, _, word] if is_word(word, "hard") => true,
        [_, _, word] if is_word(word, "soft") => false,
        [_, _, _] => return Err(SYNTAX),
        _ => return Err(call.wrong_form(&args)),
    };
    order(call, |cluster| cluster.reset(hard))
}

/// CLUSTER SAVECONFIG
pub(super) fn saveconfig(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    with(call, |cluster| cluster.note_saved())?;
    call.server.save_nodes(call.io, true).map_err(|e| {
        let why = errno::text(&e);
        refusal(format!("error saving the cluster node config: {why}"))
    })?;
    call.reply().ok();
    DONE
}

/// CLUSTER SET-CONFIG-EPOCH epoch
pub(super) fn set_config_epoch(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    with(call, |_| ())?;
    let epoch = parse_i64(args.argv()[2]).ok_or(NOT_INTEGER)?;
    order(call, |cluster| cluster.set_config_epoch(epoch))
}

const SETSLOT_ACTION: Fault =
    Fault::new("ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP");

/// CLUSTER SETSLOT slot IMPORTING node | MIGRATING node | NODE node | STABLE
pub(super) fn setslot(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    if with(call, |cluster| cluster.myself().is_replica())? {
        return Err(Fault::new("ERR Please use SETSLOT only with masters."));
    }
    let argv = args.argv();
    let slot = slot(argv[2])?;
    let what = match argv.get(3..) {
        Some([word, node]) if is_word(word, "migrating") => SetSlot::Migrating(node),
        Some([word, node]) if is_word(word, "importing") => SetSlot::Importing(node),
        Some([word, node]) if is_word(word, "node") => SetSlot::Node(node),
        Some([word]) if is_word(word, "stable") => SetSlot::Stable,
        _ => return Err(SETSLOT_ACTION),
    };
    let has_keys = call.server.dbs.db(0).slot_len(slot) > 0;
    order(call, |cluster| cluster.set_slot(slot, what, has_keys))
}
