//! Commands that save: SAVE, BGSAVE, LASTSAVE, BGREWRITEAOF. How it is done is in `server/save.rs` and
//! `server/aof/rewrite.rs`.

use crate::cmd::fault::{Fault, SYNTAX};
use crate::cmd::spec::{Acl, Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::exec::{Call, ServerFn};

const IN_PROGRESS: Fault = Fault::new("ERR Background save already in progress");
const ANOTHER: Fault = Fault::new(
    "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible.",
);
const REWRITE_IN_PROGRESS: Fault =
    Fault::new("ERR Background append only file rewriting already in progress");
const REWRITE_FAILED: Fault = Fault::new(
    "ERR Can't execute an AOF background rewriting. Please check the server logs for more information.",
);
/// What Redis says where only the log knows more.
pub const FAILED: Fault = Fault::new("ERR");

const SAVE: Row<ServerFn> = Spec::new("save", 1, Group::Server)
    .flags(
        Flags::NO_ASYNC_LOADING
            .or(Flags::ADMIN)
            .or(Flags::NOSCRIPT)
            .or(Flags::NO_MULTI),
    )
    .cost("O(N) where N is the total number of keys in all databases")
    .about("Saves the data, while everybody waits.")
    .run(save);

fn save(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    if call.server.persistence.saving.is_some() {
        return Err(IN_PROGRESS);
    }
    call.server.persistence.saves += 1;
    if !call.server.save_now(call.io) {
        return Err(FAILED);
    }
    call.reply().ok();
    DONE
}

const BGSAVE: Row<ServerFn> = Spec::new("bgsave", -1, Group::Server)
    .flags(Flags::NO_ASYNC_LOADING.or(Flags::ADMIN).or(Flags::NOSCRIPT))
    .cost("O(1)")
    .about("Saves the data in the background.")
    .history(&[("3.2.2", "Takes SCHEDULE.")])
    .args(&[Arg::word("schedule", "SCHEDULE").since("3.2.2").optional()])
    .run(bgsave);

/// BGSAVE [SCHEDULE]
fn bgsave(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let schedule = match args.argv() {
        [_] => false,
        [_, word] if is_word(word, "schedule") => true,
        _ => return Err(SYNTAX),
    };
    if call.server.persistence.saving.is_some() {
        return Err(IN_PROGRESS);
    }
    // What a transaction changes after this would be missing.
    let in_transaction = call.server.nesting > 1;
    if in_transaction || call.server.writes_snapshot() {
        if !in_transaction && !schedule {
            return Err(ANOTHER);
        }
        call.server.persistence.scheduled = true;
        call.reply().status("Background saving scheduled");
        return DONE;
    }
    call.server.save_in_background(call.io);
    call.reply().status("Background saving started");
    DONE
}

const BGREWRITEAOF: Row<ServerFn> = Spec::new("bgrewriteaof", 1, Group::Server)
    .flags(Flags::NO_ASYNC_LOADING.or(Flags::ADMIN).or(Flags::NOSCRIPT))
    .cost("O(1)")
    .about("Writes the append only file anew, from the data, in the background.")
    .run(bgrewriteaof);

fn bgrewriteaof(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    if call.server.aof.rewriting.is_some() {
        return Err(REWRITE_IN_PROGRESS);
    }
    if call.server.nesting > 1 || call.server.writes_snapshot() {
        call.server.aof.rewrite_scheduled = true;
        // Who asks for it does not want to wait for the end of a pause.
        call.server.aof.failures_in_a_row = 0;
        call.reply()
            .status("Background append only file rewriting scheduled");
        return DONE;
    }
    if !call.server.begin_rewrite(call.io) {
        return Err(REWRITE_FAILED);
    }
    call.reply()
        .status("Background append only file rewriting started");
    DONE
}

const LASTSAVE: Row<ServerFn> = Spec::new("lastsave", 1, Group::Server)
    .flags(Flags::LOADING.or(Flags::STALE).or(Flags::FAST))
    .acl(Acl::ADMIN.or(Acl::DANGEROUS))
    .cost("O(1)")
    .about("Tells the time of the last save that succeeded.")
    .tips(&["nondeterministic_output"])
    .run(lastsave);

fn lastsave(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let at_s = call.server.last_save_s;
    call.reply().int(at_s as i64);
    DONE
}

pub static ROWS: &[Row<ServerFn>] = &[BGREWRITEAOF, BGSAVE, LASTSAVE, SAVE];
