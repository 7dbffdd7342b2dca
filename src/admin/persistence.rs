//! Commands that save: SAVE, BGSAVE, LASTSAVE. How it is done is in `server/save.rs`.

use crate::cmd::fault::{Fault, SYNTAX};
use crate::cmd::spec::{Acl, Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::exec::{Call, ServerFn};

const IN_PROGRESS: Fault = Fault::new("ERR Background save already in progress");
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
    match args.argv() {
        [_] => {}
        [_, word] if is_word(word, "schedule") => {}
        _ => return Err(SYNTAX),
    }
    if call.server.persistence.saving.is_some() {
        return Err(IN_PROGRESS);
    }
    if call.server.nesting > 1 {
        // What the transaction changes after this would be missing.
        call.server.persistence.scheduled = true;
        call.reply().status("Background saving scheduled");
        return DONE;
    }
    call.server.save_in_background(call.io);
    call.reply().status("Background saving started");
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

pub static ROWS: &[Row<ServerFn>] = &[BGSAVE, LASTSAVE, SAVE];
