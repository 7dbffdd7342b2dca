//! The rows of the transaction commands; their functions, and how a transaction works, are in
//! `exec/multi.rs`.

use crate::cmd::Row;
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::exec::ServerFn;
use crate::exec::multi::{discard, exec, multi, unwatch, watch};

const AT_ONCE: Flags = Flags::NOSCRIPT
    .or(Flags::LOADING)
    .or(Flags::STALE)
    .or(Flags::FAST)
    .or(Flags::ALLOW_BUSY);

const DISCARD: Row<ServerFn> = Spec::new("discard", 1, Group::Transactions)
    .flags(AT_ONCE)
    .acl(Acl::TRANSACTION)
    .since("2.0.0")
    .cost("O(N) with N the queued commands")
    .about("Forgets the commands queued since MULTI.")
    .run(discard);

const EXEC: Row<ServerFn> = Spec::new("exec", 1, Group::Transactions)
    .flags(
        Flags::NOSCRIPT
            .or(Flags::LOADING)
            .or(Flags::STALE)
            .or(Flags::SKIP_SLOWLOG),
    )
    .acl(Acl::TRANSACTION)
    .since("1.2.0")
    .cost("That of the queued commands together.")
    .about("Runs the commands queued since MULTI as one unit.")
    .run(exec);

const MULTI: Row<ServerFn> = Spec::new("multi", 1, Group::Transactions)
    .flags(AT_ONCE)
    .acl(Acl::TRANSACTION)
    .since("1.2.0")
    .cost("O(1)")
    .about("Begins a transaction: commands are queued until EXEC.")
    .run(multi);

const UNWATCH: Row<ServerFn> = Spec::new("unwatch", 1, Group::Transactions)
    .flags(AT_ONCE)
    .acl(Acl::TRANSACTION)
    .since("2.2.0")
    .cost("O(1)")
    .about("Forgets all watched keys.")
    .run(unwatch);

const WATCH: Row<ServerFn> = Spec::new("watch", -2, Group::Transactions)
    .flags(AT_ONCE)
    .acl(Acl::TRANSACTION)
    .since("2.2.0")
    .cost("O(1) a key")
    .about("Lets the next EXEC fail if one of the keys changes before it.")
    .keys(&[KeySpec::range(1, -1, 1).flags(KeyFlags::RO)])
    .args(&[Arg::key("key", 0).multiple()])
    .run(watch);

pub static ROWS: &[Row<ServerFn>] = &[DISCARD, EXEC, MULTI, UNWATCH, WATCH];
