//! The commands of publish and subscribe. How messages travel is told in `exec/pubsub.rs`.

use crate::admin::sentinel;
use crate::base::glob;
use crate::cluster::Cluster;
use crate::cmd::session::Marks;
use crate::cmd::spec::{Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::unit::Logging;
use crate::cmd::{Args, CmdResult, DONE, Fault, Row};
use crate::exec::pubsub::{Kind, Listeners};
use crate::exec::{Call, ServerFn};

const NO_SUBSCRIBE: Fault = Fault::new("ERR SUBSCRIBE isn't allowed for a DENY BLOCKING client");
const NO_PSUBSCRIBE: Fault = Fault::new("ERR PSUBSCRIBE isn't allowed for a DENY BLOCKING client");
const NO_SSUBSCRIBE: Fault = Fault::new("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client");

const ANY_TIME: Flags = Flags::PUBSUB.or(Flags::LOADING).or(Flags::STALE);
const SUBSCRIBING: Flags = ANY_TIME.or(Flags::NOSCRIPT);
const PUBLISHING: Flags = ANY_TIME.or(Flags::FAST).or(Flags::MAY_REPLICATE);

const fn row(name: &'static str, arity: i32, flags: Flags) -> Spec {
    Spec::new(name, arity, Group::Pubsub)
        .flags(flags)
        .since("2.0.0")
}

const SUBSCRIBE: Row<ServerFn> = row("subscribe", -2, SUBSCRIBING.or(Flags::SENTINEL_HAS))
    .cost("O(N) with N the channels")
    .about("Subscribes to channels.")
    .args(&[Arg::string("channel").multiple()])
    .run(subscribe);

/// SUBSCRIBE channel [channel ...]
pub fn subscribe(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    subscribe_to(call, args, Kind::Channel, NO_SUBSCRIBE)
}

const PSUBSCRIBE: Row<ServerFn> = row("psubscribe", -2, SUBSCRIBING.or(Flags::SENTINEL_HAS))
    .cost("O(N) with N the patterns")
    .about("Subscribes to all channels that match a pattern.")
    .args(&[Arg::pattern("pattern").multiple()])
    .run(psubscribe);

/// PSUBSCRIBE pattern [pattern ...]
pub fn psubscribe(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    subscribe_to(call, args, Kind::Pattern, NO_PSUBSCRIBE)
}

const SSUBSCRIBE: Row<ServerFn> = row("ssubscribe", -2, SUBSCRIBING)
    .since("7.0.0")
    .cost("O(N) with N the shard channels")
    .about("Subscribes to shard channels.")
    .keys(&[KeySpec::range(1, -1, 1).flags(KeyFlags::NOT_KEY)])
    .args(&[Arg::string("shardchannel").multiple()])
    .run(ssubscribe);

/// SSUBSCRIBE shardchannel [shardchannel ...]
pub fn ssubscribe(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    subscribe_to(call, args, Kind::Shard, NO_SSUBSCRIBE)
}

/// A client that gets one reply a command (a script) can't subscribe. A transaction could not either, but
/// has always been let, except to shard channels, which are younger.
fn subscribe_to(call: &mut Call<'_>, args: Args<'_>, kind: Kind, refusal: Fault) -> CmdResult {
    let marks = call.session().marks;
    if marks.has(Marks::DENY_BLOCKING) && (kind == Kind::Shard || !marks.has(Marks::IN_EXEC)) {
        return Err(refusal);
    }
    for channel in args.rest() {
        call.server.subscribe(call.token, kind, channel);
    }
    DONE
}

const UNSUBSCRIBE: Row<ServerFn> = row("unsubscribe", -1, SUBSCRIBING.or(Flags::SENTINEL_HAS))
    .cost("O(N) with N the channels")
    .about("Ends subscriptions to channels.")
    .args(&[Arg::string("channel").optional().multiple()])
    .run(unsubscribe);

/// UNSUBSCRIBE [channel ...]: from all without arguments.
pub fn unsubscribe(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    unsubscribe_from(call, args, Kind::Channel)
}

const PUNSUBSCRIBE: Row<ServerFn> = row("punsubscribe", -1, SUBSCRIBING.or(Flags::SENTINEL_HAS))
    .cost("O(N) with N the patterns")
    .about("Ends subscriptions to patterns.")
    .args(&[Arg::pattern("pattern").optional().multiple()])
    .run(punsubscribe);

/// PUNSUBSCRIBE [pattern ...]: from all without arguments.
pub fn punsubscribe(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    unsubscribe_from(call, args, Kind::Pattern)
}

const SUNSUBSCRIBE: Row<ServerFn> = row("sunsubscribe", -1, SUBSCRIBING)
    .since("7.0.0")
    .cost("O(N) with N the shard channels")
    .about("Ends subscriptions to shard channels.")
    .keys(&[KeySpec::range(1, -1, 1).flags(KeyFlags::NOT_KEY)])
    .args(&[Arg::string("shardchannel").optional().multiple()])
    .run(sunsubscribe);

/// SUNSUBSCRIBE [shardchannel ...]: from all without arguments.
pub fn sunsubscribe(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    unsubscribe_from(call, args, Kind::Shard)
}

fn unsubscribe_from(call: &mut Call<'_>, args: Args<'_>, kind: Kind) -> CmdResult {
    if !args.more() {
        call.server.unsubscribe_all(call.token, kind);
    }
    for channel in args.rest() {
        call.server.unsubscribe(call.token, kind, channel);
    }
    DONE
}

const PUBLISH: Row<ServerFn> = row("publish", 3, PUBLISHING.or(Flags::SENTINEL_HAS))
    .cost("O(N+M) with N the channel's subscribers and M all subscribed patterns")
    .about("Sends a message to a channel.")
    .args(&[Arg::string("channel"), Arg::string("message")])
    .run(publish);

/// PUBLISH channel message: replies how many got it.
pub fn publish(call: &mut Call<'_>, mut args: Args<'_>) -> CmdResult {
    let (channel, message) = args.two()?;
    if call.server.sentinel.is_some() {
        return sentinel::publish(call, channel, message);
    }
    let receivers = call.server.publish(channel, message);
    publish_elsewhere(call, channel, message, false);
    call.reply().int(receivers as i64);
    DONE
}

const SPUBLISH: Row<ServerFn> = row("spublish", 3, PUBLISHING)
    .since("7.0.0")
    .cost("O(N) with N the shard channel's subscribers")
    .about("Sends a message to a shard channel.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::NOT_KEY)])
    .args(&[Arg::string("shardchannel"), Arg::string("message")])
    .run(spublish);

/// SPUBLISH shardchannel message: replies how many got it.
pub fn spublish(call: &mut Call<'_>, mut args: Args<'_>) -> CmdResult {
    let (channel, message) = args.two()?;
    let receivers = call.server.publish_shard(channel, message);
    publish_elsewhere(call, channel, message, true);
    call.reply().int(receivers as i64);
    DONE
}

/// A message goes to the replicas too; in a cluster over its bus, to all nodes or those of the shard.
fn publish_elsewhere(call: &mut Call<'_>, channel: &[u8], message: &[u8], sharded: bool) {
    let publish = |cluster: &mut Cluster| cluster.publish(channel, message, sharded);
    if call.server.with_cluster(call.io, publish).is_none() {
        call.server.unit.logging = Logging::ReplicasOnly;
    }
}

const PUBSUB: Row<ServerFn> = Spec::new("pubsub", -2, Group::Pubsub)
    .since("2.8.0")
    .cost("That of the subcommand.")
    .about("Commands about the state of publish and subscribe.")
    .container();

const CHANNELS: Row<ServerFn> = row("pubsub|channels", -2, ANY_TIME)
    .since("2.8.0")
    .cost("O(N) with N the channels that have subscribers")
    .about("Lists the channels that have subscribers.")
    .args(&[Arg::pattern("pattern").optional()])
    .run(channels);

/// PUBSUB CHANNELS [pattern]
fn channels(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    list_channels(call, args, Kind::Channel)
}

const SHARDCHANNELS: Row<ServerFn> = row("pubsub|shardchannels", -2, ANY_TIME)
    .since("7.0.0")
    .cost("O(N) with N the shard channels that have subscribers")
    .about("Lists the shard channels that have subscribers.")
    .args(&[Arg::pattern("pattern").optional()])
    .run(shardchannels);

/// PUBSUB SHARDCHANNELS [pattern]
fn shardchannels(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    list_channels(call, args, Kind::Shard)
}

fn list_channels(call: &mut Call<'_>, args: Args<'_>, kind: Kind) -> CmdResult {
    let pattern = match args.argv()[2..] {
        [] => None,
        [pattern] => Some(pattern),
        _ => return Err(call.wrong_form(&args)),
    };
    let names: Vec<_> = listeners(call, kind)
        .keys()
        .filter(|name| pattern.is_none_or(|p| glob::matches(p, name)))
        .cloned()
        .collect();
    let reply = call.reply();
    reply.array(names.len());
    for name in names {
        reply.bulk(&name);
    }
    DONE
}

fn listeners<'a>(call: &'a Call<'_>, kind: Kind) -> &'a Listeners {
    match kind {
        Kind::Channel => &call.server.pubsub.channels,
        Kind::Pattern => &call.server.pubsub.patterns,
        Kind::Shard => &call.server.pubsub.shards,
    }
}

const NUMSUB: Row<ServerFn> = row("pubsub|numsub", -2, ANY_TIME)
    .since("2.8.0")
    .cost("O(N) with N the channels asked for")
    .about("Counts the subscribers of channels.")
    .args(&[Arg::string("channel").optional().multiple()])
    .run(numsub);

/// PUBSUB NUMSUB [channel ...]: pattern subscriptions are not counted.
fn numsub(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    count_subscribers(call, args, Kind::Channel)
}

const SHARDNUMSUB: Row<ServerFn> = row("pubsub|shardnumsub", -2, ANY_TIME)
    .since("7.0.0")
    .cost("O(N) with N the shard channels asked for")
    .about("Counts the subscribers of shard channels.")
    .args(&[Arg::string("shardchannel").optional().multiple()])
    .run(shardnumsub);

/// PUBSUB SHARDNUMSUB [shardchannel ...]
fn shardnumsub(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    count_subscribers(call, args, Kind::Shard)
}

fn count_subscribers(call: &mut Call<'_>, args: Args<'_>, kind: Kind) -> CmdResult {
    let names = &args.argv()[2..];
    call.reply().array(names.len() * 2);
    for &name in names {
        let count = listeners(call, kind).get(name).map_or(0, Vec::len);
        let reply = call.reply();
        reply.bulk(name);
        reply.int(count as i64);
    }
    DONE
}

const NUMPAT: Row<ServerFn> = row("pubsub|numpat", 2, ANY_TIME)
    .since("2.8.0")
    .cost("O(1)")
    .about("Counts the different patterns that have subscribers.")
    .run(numpat);

fn numpat(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    let count = call.server.pubsub.patterns.len();
    call.reply().int(count as i64);
    DONE
}

const HELP: Row<ServerFn> = row("pubsub|help", 2, Flags::LOADING.or(Flags::STALE))
    .since("6.2.0")
    .cost("O(1)")
    .about("Lists the subcommands.")
    .run(help);

fn help(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    call.help("PUBSUB", HELP_LINES)
}

const HELP_LINES: &[&str] = &[
    "CHANNELS [<pattern>]",
    "    List the channels that have subscribers and match <pattern> (default: '*').",
    "NUMPAT",
    "    Count the patterns that have subscribers.",
    "NUMSUB [<channel> ...]",
    "    Count the subscribers of each channel, without those of patterns",
    "    (default: no channels).",
    "SHARDCHANNELS [<pattern>]",
    "    List the shard channels that have subscribers and match <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Count the subscribers of each shard channel.",
];

pub static ROWS: &[Row<ServerFn>] = &[
    CHANNELS,
    HELP,
    NUMPAT,
    NUMSUB,
    PSUBSCRIBE,
    PUBLISH,
    PUBSUB,
    PUNSUBSCRIBE,
    SHARDCHANNELS,
    SHARDNUMSUB,
    SPUBLISH,
    SSUBSCRIBE,
    SUBSCRIBE,
    SUNSUBSCRIBE,
    UNSUBSCRIBE,
];

#[cfg(test)]
mod tests {
    use crate::server::test_io::TestServer;

    #[test]
    fn a_message_reaches_channel_pattern_and_shard_subscribers_apart() {
        let mut world = TestServer::default();
        let [one, two, teller] = [(); 3].map(|()| world.connect());
        world.call(one, &["SUBSCRIBE", "news", "news"]);
        world.call(one, &["SSUBSCRIBE", "news"]);
        world.call(two, &["PSUBSCRIBE", "n*", "*s"]);
        assert_eq!(world.call(teller, &["PUBLISH", "news", "x"]), ":3\r\n");
        let message = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n";
        assert_eq!(world.receive(one), message);
        let seen = String::from_utf8(world.receive(two)).unwrap();
        assert_eq!(seen.matches("$8\r\npmessage\r\n").count(), 2);
        assert_eq!(world.call(teller, &["SPUBLISH", "news", "x"]), ":1\r\n");
        let message = b"*3\r\n$8\r\nsmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n";
        assert_eq!(world.receive(one), message);
        assert_eq!(world.receive(two), b"");

        let mut ask = |words: &[&str]| world.call(teller, &[&["PUBSUB"], words].concat());
        assert_eq!(ask(&["CHANNELS"]), "*1\r\n$4\r\nnews\r\n");
        assert_eq!(ask(&["CHANNELS", "x*"]), "*0\r\n");
        assert_eq!(
            ask(&["NUMSUB", "news", "no"]),
            "*4\r\n$4\r\nnews\r\n:1\r\n$2\r\nno\r\n:0\r\n"
        );
        assert_eq!(ask(&["SHARDNUMSUB", "news"]), "*2\r\n$4\r\nnews\r\n:1\r\n");
        assert_eq!(ask(&["NUMPAT"]), ":2\r\n");
        world.hang_up(one);
        world.hang_up(two);
        let mut ask = |words: &[&str]| world.call(teller, &[&["PUBSUB"], words].concat());
        assert_eq!(ask(&["SHARDCHANNELS"]), "*0\r\n");
        assert_eq!(ask(&["NUMPAT"]), ":0\r\n");
    }

    #[test]
    fn the_count_in_a_confirmation_is_of_its_own_kind() {
        let mut world = TestServer::default();
        let me = world.connect();
        let mut last = |words: &[&str]| {
            let reply = world.call(me, words);
            reply.rsplit(':').next().unwrap().trim().to_string()
        };
        assert_eq!(last(&["SUBSCRIBE", "a", "b"]), "2");
        assert_eq!(last(&["PSUBSCRIBE", "p"]), "3");
        assert_eq!(last(&["SSUBSCRIBE", "s"]), "1");
        assert_eq!(last(&["UNSUBSCRIBE"]), "1");
        assert_eq!(last(&["PUNSUBSCRIBE", "other"]), "1");
        assert_eq!(last(&["PUNSUBSCRIBE"]), "0");
        // Still a subscriber, of the shard channel.
        assert_eq!(world.call(me, &["PING"]), "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        world.call(me, &["SUNSUBSCRIBE", "s"]);
        assert_eq!(world.call(me, &["PING"]), "+PONG\r\n");
        let nothing = "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n";
        assert_eq!(world.call(me, &["UNSUBSCRIBE"]), nothing);
    }

    #[test]
    fn a_message_to_oneself_follows_the_reply() {
        let mut world = TestServer::default();
        let me = world.connect();
        world.call(me, &["HELLO", "3"]);
        world.call(me, &["SUBSCRIBE", "a"]);
        world.send(me, b"MULTI\r\nPUBLISH a 1\r\nPING\r\nEXEC\r\n");
        let seen = String::from_utf8(world.receive(me)).unwrap();
        let expected = "*2\r\n:1\r\n+PONG\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n";
        assert!(seen.ends_with(expected), "{seen}");
    }
}
