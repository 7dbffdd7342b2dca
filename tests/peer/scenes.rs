//! What the stream of random commands cannot hold, since it would stop or silence it: each scene has
//! connections of its own.

use redstart::resp::value::Value;

use crate::compare::show;
use crate::generate::Request;
use crate::pair::{Names, Pair};
use crate::random::Run;

/// One of the scenes, drawn at random.
pub fn play(run: &mut Run<'_>) {
    match run.generator.rng.below(5) {
        0 => reply_on_and_off(run),
        1 => monitor(run),
        2 => held_by_a_pause(run),
        3 => password(run),
        _ => quit(run),
    }
}

const NOBODY: [Names; 2] = [
    Names {
        id: String::new(),
        addr: String::new(),
        laddr: String::new(),
    },
    Names {
        id: String::new(),
        addr: String::new(),
        laddr: String::new(),
    },
];

/// Compares what two connections have received.
fn compare(run: &mut Run<'_>, name: &str, what: &str, [ours, theirs]: [Vec<Value>; 2]) -> bool {
    let same = ours == theirs;
    if !same {
        let (ours, theirs) = (show(&Value::Array(ours)), show(&Value::Array(theirs)));
        let text = format!(
            "{}\n  {what}\n  ours:    {ours}\n  theirs:  {theirs}",
            run.context()
        );
        run.found.add(name, text);
    }
    same
}

/// CLIENT REPLY in all its forms, among commands whose replies do or do not come.
fn reply_on_and_off(run: &mut Run<'_>) {
    let Some(row) = run.row("client|reply") else {
        return;
    };
    let mut pair = Pair::new(run.nodes);
    let mut requests = Vec::new();
    for _ in 0..6 {
        requests.push(run.generator.draw_row(&row, None));
        for _ in 0..run.generator.rng.below(3) {
            requests.push(match run.generator.rng.below(4) {
                0 => Request::of("ping", &["PING"]),
                1 => Request::of("nosuch", &["NOSUCH"]),
                2 => Request::of("client|reply", &["CLIENT", "REPLY", "nosuch"]),
                _ => Request::of("echo", &["ECHO", "x"]),
            });
        }
    }
    requests.push(Request::of("client|reply", &["CLIENT", "REPLY", "ON"]));
    pair.send(&requests, &NOBODY);
    let text = requests
        .iter()
        .map(Request::text)
        .collect::<Vec<_>>()
        .join(" | ");
    let replies = pair.drain("replies");
    if compare(run, "client|reply", &text, replies) {
        requests.iter().for_each(|r| run.coverage.credit(r));
    }
    pair.quit();
}

/// MONITOR sees what another connection does.
fn monitor(run: &mut Run<'_>) {
    if run.row("monitor").is_none() {
        return;
    }
    let (mut watcher, mut busy) = (Pair::new(run.nodes), Pair::new(run.nodes));
    let request = Request::of("monitor", &["MONITOR"]);
    watcher.send(std::slice::from_ref(&request), &NOBODY);
    let context = run.context();
    watcher.judge(&request, &run.judge, &context, &mut run.found);
    let mut text = String::new();
    for args in [
        &["SET", "k1", "two words\r\n\0"][..],
        &["GET", "nosuch", "too", "many"],
        &["AUTH", "default", "secret"],
        &["CONFIG", "GET", "hz"],
        &["MULTI"],
        &["INCR", "a"],
        &["SELECT", "9"],
        &["EXEC"],
        &["HELLO", "3", "AUTH", "default", "x"],
        &["PUBLISH", "nobody", "\u{e9}\""],
    ] {
        if run.generator.one_in(2) {
            text.push_str(&format!("{args:?} "));
            busy.settle(args);
        }
    }
    let lines = watcher
        .drain("seen")
        .map(|all| all.iter().map(monitor_line).collect());
    if compare(run, "monitor", &text, lines) {
        run.coverage.credit(&request);
    }
    watcher.settle(&["RESET"]);
    // Transactions are left open now and then: they go with their connection.
    busy.quit();
    watcher.quit();
}

/// A line of MONITOR without its time and address.
fn monitor_line(v: &Value) -> Value {
    let Value::Status(line) = v else {
        return v.clone();
    };
    let text = String::from_utf8_lossy(line).into_owned();
    let rest = text
        .split_once(" [")
        .map_or(text.as_str(), |(_, rest)| rest);
    let db = rest.split(' ').next().unwrap_or("");
    let words = rest.split_once("] ").map_or("", |(_, words)| words);
    Value::Status(format!("{db} {words}").into_bytes())
}

/// Writes wait while CLIENT PAUSE WRITE lasts, reads do not, and the wait ends with CLIENT UNPAUSE.
fn held_by_a_pause(run: &mut Run<'_>) {
    if run.row("client|pause").is_none() {
        return;
    }
    let [mut boss, mut writer, mut reader] = [0; 3].map(|_| Pair::new(run.nodes));
    boss.settle(&["SET", "paused", "before"]);
    boss.settle(&["CLIENT", "PAUSE", "100000", "WRITE"]);
    for conn in &mut writer.conns {
        conn.send(&["GET", "paused"]);
        conn.send(&["SET", "paused", "after"]);
        conn.send(&["GET", "paused"]);
    }
    let read = |pair: &mut Pair| pair.conns.each_mut().map(|conn| vec![conn.reply()]);
    let mut seen = vec![read(&mut writer)];
    for _ in 0..3 {
        seen.push(
            reader
                .conns
                .each_mut()
                .map(|conn| vec![conn.call(&["GET", "paused"])]),
        );
    }
    seen.push(
        reader
            .conns
            .each_mut()
            .map(|conn| vec![conn.call(&["CLIENT", "UNBLOCK", "1"])]),
    );
    let unpause = Request::of("client|unpause", &["CLIENT", "UNPAUSE"]);
    boss.send(std::slice::from_ref(&unpause), &NOBODY);
    let context = run.context();
    let reply = boss.judge(&unpause, &run.judge, &context, &mut run.found);
    run.coverage.note(&unpause, &reply);
    seen.push(read(&mut writer));
    seen.push(read(&mut writer));
    let mut all: [Vec<Value>; 2] = Default::default();
    for [ours, theirs] in seen {
        all[0].extend(ours);
        all[1].extend(theirs);
    }
    compare(run, "client|pause", "a write held by CLIENT PAUSE", all);
    boss.settle(&["DEL", "paused"]);
    for pair in [boss, writer, reader] {
        pair.quit();
    }
}

/// Connections that have to say who they are.
fn password(run: &mut Run<'_>) {
    if run.row("auth").is_none() {
        return;
    }
    let mut boss = Pair::new(run.nodes);
    boss.settle(&["CONFIG", "SET", "requirepass", "secret"]);
    const STEPS: &[&[&str]] = &[
        &["GET", "a"],
        &["PING"],
        &["NOSUCH"],
        &["GET"],
        &["CONFIG", "GET", "hz"],
        &["CONFIG", "NOSUCH"],
        &["AUTH", "wrong"],
        &["AUTH", "nosuch", "secret"],
        &["AUTH"],
        &["AUTH", "a", "b", "c"],
        &["HELLO"],
        &["HELLO", "3"],
        &["HELLO", "3", "SETNAME", "me"],
        &["HELLO", "3", "AUTH", "default", "wrong"],
        &["HELLO", "9", "AUTH", "default", "secret"],
        &["HELLO", "3", "AUTH", "default"],
        &["RESET"],
        // No MULTI: 7.2.6 gives a failed AUTH no place in EXEC's reply.
        &["EXEC"],
        &["SUBSCRIBE", "news"],
        &["CLIENT", "ID"],
        &["AUTH", "secret"],
        &["AUTH", "default", "secret"],
        &["HELLO", "3", "AUTH", "default", "secret", "SETNAME", "me"],
        &["HELLO", "2", "AUTH", "default", "secret"],
    ];
    let mut pair = Pair::new(run.nodes);
    for _ in 0..16 {
        let args = STEPS[run.generator.rng.index(STEPS.len())];
        if run.generator.for_70 && args.contains(&"SETNAME") {
            // 7.0 took the name before it looked at the password.
            continue;
        }
        let name = args[0].to_ascii_lowercase();
        let mut request = Request::of(run.row(&name).map_or("password", |r| r.name), args);
        request.options = match args {
            ["AUTH", _, _] => vec!["/username".into()],
            _ => Vec::new(),
        };
        pair.send(std::slice::from_ref(&request), &NOBODY);
        let context = format!("{}, requirepass", run.context());
        let reply = pair.judge(&request, &run.judge, &context, &mut run.found);
        run.coverage.note(&request, &reply);
        if args[0] == "SUBSCRIBE" && !reply.is_error() {
            break;
        }
    }
    boss.settle(&["CONFIG", "SET", "requirepass", ""]);
    boss.quit();
    pair.quit();
}

/// Nothing after a QUIT is answered, and the connection is closed.
fn quit(run: &mut Run<'_>) {
    if run.row("quit").is_none() {
        return;
    }
    let mut pair = Pair::new(run.nodes);
    let quit = match run.generator.rng.below(3) {
        0 => Request::of("quit", &["QUIT", "now"]),
        _ => Request::of("quit", &["quit"]),
    };
    let mut requests = vec![quit.clone()];
    if run.generator.one_in(2) {
        requests.insert(0, Request::of("multi", &["MULTI"]));
    }
    requests.push(Request::of("ping", &["PING"]));
    pair.send(&requests, &NOBODY);
    let all = pair.conns.each_mut().map(|conn| {
        let mut all = Vec::new();
        while let Some(v) = conn.try_reply() {
            all.push(v);
        }
        all
    });
    if compare(run, "quit", "QUIT", all) {
        run.coverage.credit(&quit);
    }
}
