//! Libraries of functions: code that registers named functions when it is loaded.
//!
//! What is kept of a library is its code; that is what DUMP, files and replicas get. Loading runs it with nothing at hand
//! but `redis.register_function`. A library replaces another as a whole or not at all, and a function's name belongs to one
//! library.

use std::collections::{BTreeMap, HashMap};
use std::ffi::c_int;

use bytes::Bytes;

use crate::base::quoted;
use crate::script::api::raise;
use crate::script::flags::ScriptFlags;
use crate::script::host::Host;
use crate::script::lua::{Lua, Raise, kind, until_zero};
use crate::script::vm::{Shared, Vm};

/// A function of a library.
#[derive(Clone, Debug)]
pub struct Function {
    pub name: Bytes,
    pub description: Option<Bytes>,
    pub flags: ScriptFlags,
    /// The kept function.
    pub callback: c_int,
}

/// The functions that a library has registered so far.
#[derive(Debug, Default)]
pub struct Registering {
    pub functions: Vec<Function>,
}

/// A library that is loaded.
#[derive(Debug)]
pub struct Library {
    pub name: Bytes,
    pub code: Bytes,
    pub functions: Vec<Function>,
}

/// All libraries.
#[derive(Debug, Default)]
pub struct Libraries {
    libraries: BTreeMap<Bytes, Library>,
    /// The library of each function, by its name in small letters.
    functions: HashMap<Vec<u8>, Bytes>,
}

/// What becomes of libraries of the same names when others are added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// All that there are go first.
    Flush,
    /// It is an error.
    Append,
    /// They go.
    Replace,
}

const BAD_NAME: &str = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

fn is_name(name: &[u8]) -> bool {
    let fits = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    !name.is_empty() && name.iter().all(fits)
}

/// Name and code of a library, as its text has them; or the text of the error. The code begins with the end of the first
/// line, so that lines keep their numbers.
fn parse(text: &[u8]) -> Result<(Bytes, &[u8]), Vec<u8>> {
    let plain = |why: &str| Err(why.as_bytes().to_vec());
    if !text.starts_with(b"#!") {
        return plain("Missing library metadata");
    }
    let Some(end) = memchr::memchr(b'\n', until_zero(text)) else {
        return plain("Invalid library metadata");
    };
    let parts = quoted::split_args(&text[..end]).unwrap_or_default();
    let Some((engine, options)) = parts.split_first() else {
        return plain("Invalid library metadata");
    };
    let mut name = None;
    for option in options {
        let is_it = option.len() >= 5 && option[..5].eq_ignore_ascii_case(b"name=");
        if !is_it {
            return Err([b"Invalid metadata value given: ", until_zero(option)].concat());
        }
        if name.is_some() {
            return plain("Invalid metadata value, name argument was given multiple times");
        }
        name = Some(Bytes::copy_from_slice(&option[5..]));
    }
    let Some(name) = name else {
        return plain("Library name was not given");
    };
    if !is_name(&name) {
        return plain(BAD_NAME);
    }
    let engine = engine.get(2..).unwrap_or_default();
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err([b"Engine '", engine, b"' not found"].concat());
    }
    Ok((name, &text[end..]))
}

impl Libraries {
    /// Loads a library from its text; its name, or the text of the error. With `replace` one of the same name goes.
    pub fn load(
        &mut self,
        vm: &mut Vm,
        host: &mut dyn Host,
        text: &[u8],
        replace: bool,
    ) -> Result<Bytes, Vec<u8>> {
        let (name, code) = parse(text)?;
        if self.libraries.contains_key(&name) && !replace {
            return Err([b"Library '", &name[..], b"' already exists"].concat());
        }
        let functions = vm.register(code, host)?.functions;
        let library = Library {
            name: name.clone(),
            code: Bytes::copy_from_slice(text),
            functions,
        };
        let taken = library.functions.iter().find(|f| {
            let owner = self.functions.get(&small(&f.name));
            owner.is_some_and(|owner| *owner != name)
        });
        let why = match (taken, library.functions.is_empty()) {
            (_, true) => Some(b"No functions registered".to_vec()),
            (Some(f), _) => Some([b"Function ", &f.name[..], b" already exists"].concat()),
            _ => None,
        };
        if let Some(why) = why {
            free(vm, library);
            return Err(why);
        }
        self.remove(vm, &name);
        self.link(library);
        Ok(name)
    }

    fn link(&mut self, library: Library) {
        for function in &library.functions {
            let name = small(&function.name);
            self.functions.insert(name, library.name.clone());
        }
        self.libraries.insert(library.name.clone(), library);
    }

    fn unlink(&mut self, name: &[u8]) -> Option<Library> {
        let library = self.libraries.remove(name)?;
        for function in &library.functions {
            self.functions.remove(&small(&function.name));
        }
        Some(library)
    }

    /// Removes a library; false if there is none of that name.
    pub fn remove(&mut self, vm: &mut Vm, name: &[u8]) -> bool {
        match self.unlink(name) {
            Some(library) => {
                free(vm, library);
                true
            }
            None => false,
        }
    }

    /// Adds other libraries, all or none; or the text of the error.
    pub fn join(
        &mut self,
        vm: &mut Vm,
        mut others: Libraries,
        policy: Policy,
    ) -> Result<(), Vec<u8>> {
        let mut replaced = Vec::new();
        if policy == Policy::Flush {
            std::mem::swap(self, &mut others);
            others.clear(vm);
            return Ok(());
        }
        let clash = others
            .libraries
            .keys()
            .find(|&name| self.libraries.contains_key(name));
        if let Some(name) = clash.filter(|_| policy == Policy::Append) {
            let why = [b"Library ", &name[..], b" already exists"].concat();
            others.clear(vm);
            return Err(why);
        }
        for name in others.libraries.keys() {
            replaced.extend(self.unlink(name));
        }
        let functions = others.libraries.values().flat_map(|l| &l.functions);
        let taken = functions
            .map(|f| &f.name)
            .find(|&name| self.functions.contains_key(&small(name)));
        if let Some(name) = taken {
            let why = [b"Function ", &name[..], b" already exists"].concat();
            others.clear(vm);
            replaced.into_iter().for_each(|library| self.link(library));
            return Err(why);
        }
        replaced.into_iter().for_each(|library| free(vm, library));
        let all = std::mem::take(&mut others.libraries);
        all.into_values().for_each(|library| self.link(library));
        Ok(())
    }

    /// Removes all libraries.
    pub fn clear(&mut self, vm: &mut Vm) {
        self.functions.clear();
        for library in std::mem::take(&mut self.libraries).into_values() {
            free(vm, library);
        }
    }

    /// The function of this name, in any case.
    pub fn function(&self, name: &[u8]) -> Option<&Function> {
        let small = small(name);
        let library = self.libraries.get(self.functions.get(&small)?)?;
        let is_it = |f: &&Function| f.name.eq_ignore_ascii_case(name);
        library.functions.iter().find(is_it)
    }

    /// All libraries in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Library> {
        self.libraries.values()
    }

    /// The texts of all libraries.
    pub fn texts(&self) -> Vec<Bytes> {
        self.iter().map(|library| library.code.clone()).collect()
    }

    /// How many libraries there are.
    pub fn len(&self) -> usize {
        self.libraries.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.libraries.is_empty()
    }

    /// How many functions there are.
    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    /// Bytes that they hold outside the interpreter.
    pub fn memory(&self) -> usize {
        let of = |f: &Function| {
            size_of::<Function>() + 2 * f.name.len() + f.description.as_ref().map_or(0, Bytes::len)
        };
        let each = self.iter().map(|library| {
            let functions: usize = library.functions.iter().map(of).sum();
            size_of::<Library>() + library.name.len() + library.code.len() + functions
        });
        size_of::<Libraries>() + each.sum::<usize>()
    }
}

fn small(name: &[u8]) -> Vec<u8> {
    name.to_ascii_lowercase()
}

fn free(vm: &mut Vm, library: Library) {
    for function in library.functions {
        vm.forget(function.callback);
    }
}

/// `redis.register_function`: with a name and a function, or with a table of named arguments.
pub fn register(lua: Lua) -> Result<c_int, Raise> {
    let shared = Shared::of(lua);
    if shared.registering.borrow().is_none() {
        let text = "redis.register_function can only be called on FUNCTION LOAD command";
        return Err(raise(lua, text));
    }
    let function = match lua.top() {
        1 => read_named(lua),
        2 => read_two(lua),
        _ => Err("wrong number of arguments to redis.register_function"),
    };
    let refused = function.and_then(|function| {
        let mut registering = shared.registering.borrow_mut();
        let functions = &mut registering.get_or_insert_default().functions;
        let why = if !is_name(&function.name) {
            Some(BAD_NAME)
        } else if functions.iter().any(|f| f.name == function.name) {
            Some("Function already exists in the library")
        } else {
            None
        };
        if let Some(why) = why {
            lua.forget(function.callback);
            return Err(why);
        }
        functions.push(function);
        Ok(())
    });
    match refused {
        Ok(()) => Ok(0),
        Err(why) => Err(raise(lua, why)),
    }
}

fn read_two(lua: Lua) -> Result<Function, &'static str> {
    if !lua.is_text(1) {
        return Err("first argument to redis.register_function must be a string");
    }
    if lua.kind(2) != kind::FUNCTION {
        return Err("second argument to redis.register_function must be a function");
    }
    Ok(Function {
        callback: lua.keep(),
        name: Bytes::copy_from_slice(lua.bytes(1).unwrap_or_default()),
        description: None,
        flags: ScriptFlags::NONE,
    })
}

#[derive(Default)]
struct Named {
    name: Option<Bytes>,
    description: Option<Bytes>,
    flags: Option<ScriptFlags>,
    callback: Option<c_int>,
}

fn read_named(lua: Lua) -> Result<Function, &'static str> {
    if !lua.is_table(1) {
        return Err(
            "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).",
        );
    }
    let mut named = Named::default();
    lua.push_nil();
    let read = (|| {
        while lua.next(1) {
            read_named_one(lua, &mut named)?;
            lua.set_top(2);
        }
        Ok(())
    })();
    let callback = named.callback.take();
    let missing = match (&named.name, callback) {
        (None, _) => Some("redis.register_function must get a function name argument"),
        (_, None) => Some("redis.register_function must get a callback argument"),
        _ => None,
    };
    match (read.and(missing.map_or(Ok(()), Err)), named.name, callback) {
        (Ok(()), Some(name), Some(callback)) => Ok(Function {
            name,
            description: named.description,
            flags: named.flags.unwrap_or_default(),
            callback,
        }),
        (why, _, callback) => {
            if let Some(callback) = callback {
                lua.forget(callback);
            }
            Err(why.err().unwrap_or_default())
        }
    }
}

/// Reads the pair on the top.
fn read_named_one(lua: Lua, named: &mut Named) -> Result<(), &'static str> {
    let text = |at: c_int| match lua.is_text(at) {
        true => lua.bytes(at).map(Bytes::copy_from_slice),
        false => None,
    };
    if lua.kind(-2) == kind::NUMBER {
        return Err("unknown argument given to redis.register_function");
    }
    if lua.kind(-2) != kind::STRING {
        return Err("named argument key given to redis.register_function is not a string");
    }
    let key = lua.c_bytes(-2).unwrap_or_default().to_ascii_lowercase();
    match &key[..] {
        b"function_name" => {
            let why = "function_name argument given to redis.register_function must be a string";
            named.name = Some(text(-1).ok_or(why)?);
        }
        b"description" => {
            let why = "description argument given to redis.register_function must be a string";
            named.description = Some(text(-1).ok_or(why)?);
        }
        b"callback" => {
            if lua.kind(-1) != kind::FUNCTION {
                return Err(
                    "callback argument given to redis.register_function must be a function",
                );
            }
            let before = named.callback.replace(lua.keep());
            before.into_iter().for_each(|before| lua.forget(before));
        }
        b"flags" => {
            if !lua.is_table(-1) {
                return Err(
                    "flags argument to redis.register_function must be a table representing function flags",
                );
            }
            named.flags = Some(read_flags(lua).ok_or("unknown flag given")?);
        }
        _ => return Err("unknown argument given to redis.register_function"),
    }
    Ok(())
}

/// The flags in the table on the top, if all are known.
fn read_flags(lua: Lua) -> Option<ScriptFlags> {
    let mut flags = ScriptFlags::NONE;
    for n in 1.. {
        lua.raw_item(-1, n);
        let flag = match lua.is_text(-1) {
            true => lua.c_bytes(-1).map(<[u8]>::to_ascii_lowercase),
            false if lua.kind(-1) == kind::NIL => {
                lua.pop(1);
                break;
            }
            false => None,
        };
        lua.pop(1);
        flags = flags | ScriptFlags::named(&flag?)?;
    }
    Some(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_names_itself_in_its_first_line() {
        let name = |text: &str| {
            let parsed = parse(text.as_bytes());
            parsed
                .map(|(name, _)| name)
                .map_err(|why| String::from_utf8(why).unwrap())
        };
        assert_eq!(name("#!LUA name=lib_1\n return"), Ok("lib_1".into()));
        for (text, why) in [
            ("return", "Missing library metadata"),
            ("#!lua name=x", "Invalid library metadata"),
            ("#!lua\n", "Library name was not given"),
            ("#!lua name=\n", BAD_NAME),
            ("#!lua name=a-b\n", BAD_NAME),
            (
                "#!lua name=a name=b\n",
                "Invalid metadata value, name argument was given multiple times",
            ),
            (
                "#!lua name=a foo=b\n",
                "Invalid metadata value given: foo=b",
            ),
            ("#!js name=a\n", "Engine 'js' not found"),
        ] {
            assert_eq!(name(text), Err(why.to_string()), "{text}");
        }
    }
}
