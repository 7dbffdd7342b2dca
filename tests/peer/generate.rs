//! Random commands, drawn from the command table: the rows' own argument trees say what a command looks
//! like, so that a new row is tested from the day it stands there. What the trees cannot say (which
//! directives exist, what a channel is called) stands in [`crate::words`].
//!
//! A generator can be told to make a certain option of a row: so the run steers towards those that have
//! been tested too little.

use redstart::base::rng::Rng;
use redstart::cmd::spec::{Arg, ArgType, Flags, Spec};

use crate::typed;
use crate::words;

/// A command and the options of its row that it uses, as paths of argument names.
#[derive(Clone, Debug)]
pub struct Request {
    pub name: &'static str,
    pub args: Vec<Vec<u8>>,
    pub options: Vec<String>,
    /// Made wrong on purpose.
    pub broken: bool,
}

impl Request {
    /// A request that is written out.
    pub fn of(name: &'static str, args: &[&str]) -> Request {
        let args = args.iter().map(|a| a.as_bytes().to_vec()).collect();
        Request {
            name,
            args,
            options: Vec::new(),
            broken: false,
        }
    }

    /// The arguments, readable.
    pub fn text(&self) -> String {
        let quoted = |a: &Vec<u8>| match a.iter().all(|b| b.is_ascii_graphic()) && !a.is_empty() {
            true => a.escape_ascii().to_string(),
            false => format!("\"{}\"", a.escape_ascii()),
        };
        self.args.iter().map(quoted).collect::<Vec<_>>().join(" ")
    }
}

/// The options of a row as paths: everything optional, and every branch of a choice.
pub fn options_of(row: &Spec) -> Vec<String> {
    fn walk(args: &[Arg], path: &str, out: &mut Vec<String>) {
        for arg in args {
            let path = format!("{path}/{}", arg.name);
            if is_option(arg, &path) {
                out.push(path.clone());
            }
            walk(arg.of, &path, out);
        }
    }
    let mut out = Vec::new();
    walk(row.args, "", &mut out);
    out
}

/// The options that a form uses which is written out: those whose word stands there, or that need none.
fn options_in_form(row: &Spec, args: &[Vec<u8>]) -> Vec<String> {
    let given = |arg: &&Arg| match arg.token {
        Some(token) => args
            .iter()
            .any(|a| a.eq_ignore_ascii_case(token.as_bytes())),
        None => args.len() > row.name.split('|').count() + 1,
    };
    row.args
        .iter()
        .filter(|a| a.optional)
        .filter(given)
        .map(|a| format!("/{}", a.name))
        .collect()
}

fn is_option(arg: &Arg, path: &str) -> bool {
    arg.optional || path.matches('/').count() > 1
}

/// Draws commands from rows.
pub struct Generator {
    pub rng: Rng,
    rows: Vec<Spec>,
    /// Each row as often as it is to be drawn.
    lots: Vec<usize>,
    /// Unix time in seconds at the start, so that absolute times are of today.
    pub now_s: u64,
    /// Set for a peer of 7.0: it wants an argument more of COMMAND GETKEYS, a HELLO that fails in the
    /// middle has done its first half, ZRANK has no option, and the
    /// lowest of integers is no index.
    pub for_70: bool,
    /// Keys and arguments are drawn by data type.
    typed: bool,
    /// What DUMP gave for a key, here or there.
    pub payloads: Vec<(&'static str, Vec<u8>)>,
    /// The last new ID of a stream's entry.
    stream_clock: u64,
    /// The path of an option that the request under construction must have.
    wanted: Option<String>,
    /// Where the request under construction has a count of keys, and how many it has.
    numkeys_at: Option<usize>,
    keys_drawn: u64,
}

impl Generator {
    /// Draws from `rows` under a seed.
    pub fn new(seed: u64, rows: Vec<Spec>, now_s: u64) -> Self {
        Self::weighted(seed, rows, now_s, words::weight)
    }

    /// The same for the data types, each with keys of its own.
    pub fn typed(seed: u64, rows: Vec<Spec>, now_s: u64) -> Self {
        Generator {
            typed: true,
            ..Self::weighted(seed, rows, now_s, typed::weight)
        }
    }

    fn weighted(seed: u64, rows: Vec<Spec>, now_s: u64, weight: fn(&str) -> usize) -> Self {
        let lots = |(i, row): (usize, &Spec)| std::iter::repeat_n(i, weight(row.name));
        let lots = rows.iter().enumerate().flat_map(lots).collect();
        Generator {
            rng: Rng::new(seed),
            rows,
            lots,
            now_s,
            for_70: false,
            typed: false,
            payloads: Vec::new(),
            stream_clock: 100,
            wanted: None,
            numkeys_at: None,
            keys_drawn: 0,
        }
    }

    /// The next command.
    pub fn next(&mut self) -> Request {
        if self.one_in(60) {
            return self.nonsense();
        }
        let row = self.rows[self.lots[self.rng.index(self.lots.len())]];
        self.request(&row)
    }

    /// A command of the row of that name with that option.
    pub fn with_option(&mut self, name: &str, option: Option<&str>) -> Option<Request> {
        let row = *self.rows.iter().find(|r| r.name == name)?;
        Some(self.draw_row(&row, option))
    }

    /// A command of this row, well made, with that option.
    pub fn draw_row(&mut self, row: &Spec, option: Option<&str>) -> Request {
        self.wanted = option.map(str::to_string);
        let request = self.build(row);
        self.wanted = None;
        request
    }

    /// A command of this row.
    pub fn request(&mut self, row: &Spec) -> Request {
        let mut request = self.build(row);
        let fragile = self.for_70 && matches!(row.name, "hello" | "zrank" | "zrevrank" | "lset");
        // Another score would leave those that have one in no order by their members.
        let even = self.typed && request.args.get(1).is_some_and(|key| typed::is_even(key));
        if words::may_break(row.name)
            && !fragile
            && !even
            && !row.flags.has(Flags::BLOCKING)
            && self.one_in(25)
        {
            self.break_it(&mut request);
        }
        request
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.rng.below(n) == 0
    }

    pub fn pick(&mut self, from: &[&str]) -> Vec<u8> {
        from[self.rng.index(from.len())].as_bytes().to_vec()
    }

    fn build(&mut self, row: &Spec) -> Request {
        let mut request = Request {
            name: row.name,
            args: Vec::new(),
            options: Vec::new(),
            broken: false,
        };
        for word in row.name.split('|') {
            request.args.push(self.any_case(word));
        }
        if let Some(forms) = words::forms(row.name) {
            let form = forms[self.rng.index(forms.len())];
            self.fill_form(form, &mut request);
            request.options = options_in_form(row, &request.args);
            return request;
        }
        (self.numkeys_at, self.keys_drawn) = (None, 0);
        for arg in row.args {
            self.arg(row, arg, "", &mut request);
        }
        if let Some(at) = self.numkeys_at {
            let wrong = u64::from(self.one_in(40));
            request.args[at] = (self.keys_drawn + wrong).to_string().into_bytes();
        }
        words::make_harmless(&mut request);
        if self.for_70 && matches!(row.name, "zrank" | "zrevrank") {
            request.args.truncate(3);
        }
        if self.typed {
            typed::mend(&mut self.rng, &mut request, &mut self.stream_clock);
        }
        request
    }

    /// A form that is written out: words in angle brackets stand for something to draw.
    fn fill_form(&mut self, form: &str, request: &mut Request) {
        for word in form.split_ascii_whitespace() {
            match word {
                "<key>" => request.args.push(self.pick(words::KEYS)),
                "<value>" => request.args.push(self.pick(words::VALUES)),
                "<binary>" => request.args.push(self.binary(40)),
                "<command>" => {
                    let row = self.rows[self.rng.index(self.rows.len())];
                    request.args.extend(self.request(&row).args);
                    if self.for_70 && request.args.len() < 4 {
                        request.args.push(b"x".to_vec());
                    }
                }
                word => request.args.push(word.replace('_', " ").into_bytes()),
            }
        }
    }

    fn row_name(&mut self) -> Vec<u8> {
        let row = &self.rows[self.rng.index(self.rows.len())];
        row.name.as_bytes().to_vec()
    }

    /// True if the option that is wanted is this one or below it.
    fn leads(&self, path: &str) -> bool {
        self.wanted.as_ref().is_some_and(|w| {
            w.strip_prefix(path)
                .is_some_and(|r| r.is_empty() || r.starts_with('/'))
        })
    }

    fn arg(&mut self, row: &Spec, arg: &Arg, path: &str, out: &mut Request) {
        let path = format!("{path}/{}", arg.name);
        if arg.optional && !self.leads(&path) && self.one_in(2) {
            return;
        }
        if is_option(arg, &path) {
            out.options.push(path.clone());
        }
        let times = match arg.name {
            // One for each key.
            "weight" => self.keys_drawn,
            "id" | "ID" if path.starts_with("/streams/") => self.keys_drawn,
            "key" if path.starts_with("/streams/") && !self.one_in(3) => 1,
            _ if arg.multiple => 1 + self.rng.below(3),
            _ => 1,
        };
        for i in 0..times {
            if let Some(token) = arg.token
                && (i == 0 || arg.multiple_token)
            {
                out.args.push(self.any_case(token));
            }
            self.value(row, arg, &path, out);
        }
    }

    fn value(&mut self, row: &Spec, arg: &Arg, path: &str, out: &mut Request) {
        let text = match arg.kind {
            ArgType::PureToken => return,
            ArgType::OneOf => {
                let led = arg
                    .of
                    .iter()
                    .find(|a| self.leads(&format!("{path}/{}", a.name)));
                let pick = led.unwrap_or(&arg.of[self.rng.index(arg.of.len())]);
                return self.arg(row, pick, path, out);
            }
            ArgType::Block => {
                for part in arg.of {
                    self.arg(row, part, path, out);
                }
                return;
            }
            ArgType::Key => {
                self.keys_drawn += u64::from(arg.multiple);
                self.key(row, arg)
            }
            _ if self.typed && typed::is_id(row, arg.name) => {
                typed::id(&mut self.rng, row, arg.name, &mut self.stream_clock).into_bytes()
            }
            ArgType::Pattern => {
                let typed = typed::pattern(row, arg.name).filter(|_| self.typed);
                let list = typed.or_else(|| words::pattern(row.name));
                self.pick(list.unwrap_or(words::PATTERNS))
            }
            ArgType::Double => {
                let typed = typed::double(row, arg.name).filter(|_| self.typed);
                self.pick(typed.unwrap_or(words::DOUBLES))
            }
            ArgType::Integer if arg.name == "numkeys" => {
                self.numkeys_at = Some(out.args.len());
                Vec::new()
            }
            ArgType::UnixTime => self.time(arg.name.contains("milli"), self.now_s),
            ArgType::Integer => self.integer(row, arg),
            ArgType::String => self.string(row, arg, out),
        };
        out.args.push(text);
    }

    fn key(&mut self, row: &Spec, arg: &Arg) -> Vec<u8> {
        match self.typed {
            true => typed::key(&mut self.rng, row, arg.name).into(),
            false => self.pick(words::KEYS),
        }
    }

    fn integer(&mut self, row: &Spec, arg: &Arg) -> Vec<u8> {
        if let Some(list) = typed::integer(row, arg.name).filter(|_| self.typed) {
            return self.pick(list);
        }
        if let Some(list) = words::integer(row.name, arg.name) {
            return self.pick(list);
        }
        if arg.name.contains("seconds") {
            return self.time(arg.name.contains("milli"), 0);
        }
        match self.one_in(12) {
            true => self.pick(words::ODD_INTS),
            false => self.pick(words::INTS),
        }
    }

    /// What was dumped of a key like the one that it is for; now and then spoilt.
    fn payload(&mut self, out: &Request) -> Vec<u8> {
        let key = out
            .args
            .get(1)
            .and_then(|key| std::str::from_utf8(key).ok());
        let fits = |of: &str| key.is_some_and(|key| typed::are_alike(key, of));
        let fitting: Vec<usize> = (0..self.payloads.len())
            .filter(|&at| fits(self.payloads[at].0))
            .collect();
        if fitting.is_empty() {
            return self.binary(40);
        }
        let mut payload = self.payloads[fitting[self.rng.index(fitting.len())]]
            .1
            .clone();
        if self.one_in(30) {
            let at = self.rng.index(payload.len());
            payload[at] ^= 1 << self.rng.below(8);
        }
        payload
    }

    fn string(&mut self, row: &Spec, arg: &Arg, out: &Request) -> Vec<u8> {
        if arg.name == "serialized-value" {
            return self.payload(out);
        }
        if (row.name, arg.name) == ("config|set", "value") {
            let directive = out.args.last().cloned().unwrap_or_default();
            let directive = String::from_utf8_lossy(&directive).to_ascii_lowercase();
            let values = words::DIRECTIVES
                .iter()
                .find(|(name, _)| *name == directive);
            return self.pick(values.map_or(words::VALUES, |(_, values)| values));
        }
        if (row.name, arg.name) == ("config|set", "parameter") {
            return match self.one_in(40) {
                true => b"nosuch".to_vec(),
                false => words::DIRECTIVES[self.rng.index(words::DIRECTIVES.len())]
                    .0
                    .as_bytes()
                    .to_vec(),
            };
        }
        if words::takes_row_names(row.name, arg.name) {
            return if self.one_in(20) {
                b"nosuch".to_vec()
            } else {
                self.row_name()
            };
        }
        let typed = typed::string(row, arg.name).filter(|_| self.typed);
        match typed.or_else(|| words::string(row.name, arg.name)) {
            Some(_) if self.typed && self.one_in(60) => self.binary(100),
            Some(list) => self.pick(list),
            None if self.one_in(8) => self.binary(300),
            None => self.pick(words::VALUES),
        }
    }

    fn binary(&mut self, most: usize) -> Vec<u8> {
        let len = self.rng.index(most);
        let mut bytes = vec![0; len];
        self.rng.fill(&mut bytes);
        bytes
    }

    /// A time: long past, far ahead, or absurd; never near enough for the run to notice it passing. Times
    /// from now on are drawn from decades, so that no two deadlines are close enough for the servers'
    /// clocks to order them differently.
    fn time(&mut self, milli: bool, base_s: u64) -> Vec<u8> {
        let unit = if milli { 1000 } else { 1 };
        let s = match self.rng.below(20) {
            0 => return self.pick(words::ODD_INTS),
            1 if base_s > 0 => self.rng.below(3),
            2 => return self.pick(&["-1", "-1000", "0"]),
            3 => base_s.saturating_sub(1000),
            4 | 5 if base_s > 0 => base_s + 10_000,
            _ => base_s + 1_000 + self.rng.below(1_000_000_000),
        };
        let odd = if milli && s > 1000 && s != base_s + 10_000 {
            self.rng.below(1000)
        } else {
            0
        };
        (s * unit + odd).to_string().into_bytes()
    }

    fn any_case(&mut self, token: &str) -> Vec<u8> {
        match self.rng.below(3) {
            0 => token.to_lowercase().into_bytes(),
            1 => token.to_uppercase().into_bytes(),
            _ => token.as_bytes().to_vec(),
        }
    }

    /// A command that does not exist, with arguments to quote in the error.
    fn nonsense(&mut self) -> Request {
        let mut request = Request::of("", &[]);
        request.broken = true;
        request.args.push(match self.rng.below(4) {
            0 => self.binary(200),
            1 => b"nosuchcommand\r\nat all".to_vec(),
            2 => self.row_name(),
            _ => self.pick(words::VALUES),
        });
        for _ in 0..self.rng.below(6) {
            let arg = if self.one_in(3) {
                self.binary(100)
            } else {
                self.pick(words::VALUES)
            };
            request.args.push(arg);
        }
        // Names of rows in full, `config|get`, are no commands; those of simple commands are.
        if !request.args[0].contains(&b'|')
            && self
                .rows
                .iter()
                .any(|r| r.name.as_bytes() == request.args[0])
        {
            request.args[0].push(b'x');
        }
        request
    }

    /// Drops, doubles or spoils an argument, for the error texts.
    fn break_it(&mut self, request: &mut Request) {
        request.broken = true;
        let last = request.args.len();
        let from = request.name.split('|').count();
        let at = from + self.rng.index(last + 1 - from);
        match self.rng.below(4) {
            0 if at < last => drop(request.args.remove(at)),
            1 if at < last => {
                let copy = request.args[at].clone();
                request.args.insert(at, copy);
            }
            2 if at < last => request.args[at] = self.pick(words::ODD_INTS),
            _ => {
                let more = self.pick(words::VALUES);
                request.args.insert(at.min(last), more);
            }
        }
        words::make_harmless(request);
    }
}
