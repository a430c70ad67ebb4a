//! Runs the Lua program that lsyncd's configuration is, and keeps what it hands to `settings{}` and `sync{}`.
//!
//! - The program sees the base functions, `string`, `table` and `math`, and nothing that reads, writes, runs or compiles anything.
//! - Its steps, its memory, the size of what it hands over and its time are bounded, so that whatever the bytes are, this ends soon.
//! - It cannot catch an error, so a bound that is reached ends it, and it has nothing that the count of steps does not reach: no
//!   finalisers and no coroutines. A single call that does not return is given up with its thread, which ends with the process.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    path::Path,
    rc::Rc,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use mlua::{HookTriggers, Lua, LuaOptions, StdLib, VmState, chunk::ChunkMode};

use super::{
    keep::Keep,
    value::{Table, Value},
};
use crate::config::{ConfigError, foreign::short, raw::At};

/// Instructions of Lua's machine: a second or so.
const MOST_STEPS: u32 = 20_000_000;
/// How often they are counted.
const STEPS: u32 = 10_000;
const MEMORY: usize = 64 << 20;
const LONGEST: Duration = Duration::from_secs(5);
/// Room for Lua's parser and its patterns, which call themselves up to 200 deep.
const STACK: usize = 8 << 20;
const MOST_SYNCS: usize = 1000;

/// The name that Lua gives the program in its own messages.
const CHUNK: &str = "lua";

/// The name under which a table of lsyncd's own says which one it is.
pub(super) const LAYER: &str = "\u{1}layer";

/// lsyncd's tables as far as a configuration may rest on them or change them. Their defaults are left out, so that what is written can
/// be told from what is not; their functions are known by where they are.
const DEFAULT: &str = r#"
local function own() end
local exit_codes = {}
local rsync = {
    ["\1layer"] = "rsync", checkgauge = {}, rsync = {}, exitcodes = exit_codes,
    action = own, init = own, full = own, prepare = own, collect = own,
}
local direct = {
    ["\1layer"] = "direct", checkgauge = {}, rsync = rsync.rsync, rsyncExitCodes = exit_codes,
    action = own, init = own, full = own, prepare = own, collect = own,
}
local rsyncssh = {
    rsync, ["\1layer"] = "rsyncssh", checkgauge = {}, ssh = {}, rsyncExitCodes = exit_codes, sshExitCodes = {},
    action = own, prepare = own, collect = own,
}
default = {
    rsync = rsync, direct = direct, rsyncssh = rsyncssh, rsyncExitCodes = exit_codes, sshExitCodes = {},
    action = own, init = own, prepare = own, collect = own,
}
function string.starts(text, start) return text:sub(1, #start) == start end
function string.ends(text, ending) return ending == "" or text:sub(-#ending) == ending end
function table.contains(list, item)
    for _, value in ipairs(list) do
        if value == item then return true end
    end
    return false
end
function tunnel(options) return options end
function log() end
function print() end
warn, string.dump = nil, nil
return own
"#;

/// Names that lsyncd's own Lua has, and an import has not.
const ABSENT_TABLES: &[&str] = &["io", "os", "package", "debug", "coroutine", "lsyncd"];
const ABSENT_FUNCTIONS: &[&str] = &[
    "require",
    "dofile",
    "loadfile",
    "load",
    "loadstring",
    "pcall",
    "xpcall",
    "setmetatable",
    "collectgarbage",
    "readdir",
    "now",
    "alarm",
    "spawn",
    "spawnShell",
    "observefd",
    "nonobservefd",
    "terminate",
];

/// What a program said.
#[derive(Debug)]
pub(super) struct Program {
    pub settings: BTreeMap<String, At<Value>>,
    /// In their order.
    pub syncs: Vec<Call>,
}

/// One call of `sync{}`.
#[derive(Debug)]
pub(super) struct Call {
    /// Where it stands, from 1.
    pub line: Option<usize>,
    /// With what it inherits from.
    pub table: Table,
    /// The settings so far, of which some hold for every sync that comes after them.
    pub settings: BTreeMap<String, At<Value>>,
}

/// Why the program was ended, and in which line.
#[derive(Debug)]
struct Stop {
    line: Option<usize>,
    message: String,
}

impl std::error::Error for Stop {}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Runs a program. `file` is named in errors.
pub(super) fn evaluate(bytes: &[u8], file: &Path) -> Result<Program, ConfigError> {
    let error = |message: String| ConfigError::in_file(file, None, None, message);
    let (done, result) = mpsc::channel();
    let (bytes, of) = (bytes.to_vec(), file.to_owned());
    let evaluator = move || {
        // Whoever waited may have given up.
        let _ = done.send(run(&bytes).map_err(|error| explain(&error, &of)));
    };
    thread::Builder::new()
        .name("lua".to_owned())
        .stack_size(STACK)
        .spawn(evaluator)
        .map_err(|cause| error(format!("cannot be run: {cause} (try again when the machine has room for a thread)")))?;
    result.recv_timeout(LONGEST).unwrap_or_else(|cause| {
        Err(error(match cause {
            RecvTimeoutError::Timeout => {
                format!("has not ended after {} s, within a single call (write plain tables)", LONGEST.as_secs())
            }
            RecvTimeoutError::Disconnected => "cannot be run: Lua ended without an answer (write plain tables)".to_owned(),
        }))
    })
}

struct State {
    settings: RefCell<BTreeMap<String, At<Value>>>,
    syncs: RefCell<Vec<Call>>,
    keep: RefCell<Keep>,
}

fn run(bytes: &[u8]) -> mlua::Result<Program> {
    let lua = Lua::new_with(StdLib::STRING | StdLib::TABLE | StdLib::MATH, LuaOptions::default())?;
    lua.set_memory_limit(MEMORY)?;
    let own: mlua::Function = lua.load(DEFAULT).set_name("=lsyncd").set_mode(ChunkMode::Text).eval()?;
    let state = Rc::new(State { settings: RefCell::default(), syncs: RefCell::default(), keep: RefCell::new(Keep::new(own.to_pointer())) });
    let globals = lua.globals();
    for name in ABSENT_TABLES {
        let table = lua.create_table()?;
        let meta = lua.create_table()?;
        let index = move |lua: &Lua, (_, key): (mlua::Value, mlua::Value)| -> mlua::Result<mlua::Value> {
            Err(absent(lua, &format!("{name}.{}", key.to_string().unwrap_or_default())))
        };
        meta.raw_set("__index", lua.create_function(index)?)?;
        table.set_metatable(Some(meta))?;
        globals.raw_set(*name, table)?;
    }
    for name in ABSENT_FUNCTIONS {
        let function = move |lua: &Lua, _: mlua::MultiValue| -> mlua::Result<()> { Err(absent(lua, name)) };
        globals.raw_set(*name, lua.create_function(function)?)?;
    }
    let of = Rc::clone(&state);
    globals.raw_set("settings", lua.create_function(move |lua, value| settings(lua, &of, value))?)?;
    let of = Rc::clone(&state);
    globals.raw_set("sync", lua.create_function(move |lua, value| sync(lua, &of, value))?)?;
    let steps = Cell::new(0);
    lua.set_hook(HookTriggers::new().every_nth_instruction(STEPS), move |_, debug| {
        steps.set(steps.get() + STEPS);
        if steps.get() < MOST_STEPS {
            return Ok(VmState::Continue);
        }
        let message = format!("does not end: {} million steps of Lua were made up to here (write plain tables)", MOST_STEPS / 1_000_000);
        Err(mlua::Error::external(Stop { line: debug.current_line(), message }))
    })?;
    lua.load(source(bytes)).set_name(format!("={CHUNK}")).set_mode(ChunkMode::Text).exec()?;
    assigned(&lua, &state)?;
    Ok(Program { settings: state.settings.take(), syncs: state.syncs.take() })
}

/// As Lua reads a file: a mark of the byte order is passed over, and so is a first line for a shell.
fn source(bytes: &[u8]) -> Vec<u8> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match bytes.first() {
        Some(b'#') => [b"--", bytes].concat(),
        _ => bytes.to_vec(),
    }
}

fn absent(lua: &Lua, name: &str) -> mlua::Error {
    let message = format!("`{}` cannot be used: an import runs nothing and reads no other file (write out what it gives)", short(name));
    stop(line(lua), message)
}

fn stop(line: Option<usize>, message: impl Into<String>) -> mlua::Error {
    mlua::Error::external(Stop { line, message: message.into() })
}

/// Where the function that called us is.
fn line(lua: &Lua) -> Option<usize> {
    lua.inspect_stack(1, |debug| debug.current_line()).flatten()
}

fn settings(lua: &Lua, state: &State, value: mlua::Value) -> mlua::Result<mlua::Value> {
    if let mlua::Value::String(key) = &value {
        return match state.settings.borrow().get(&*key.to_string_lossy()).map(|at| &at.value) {
            Some(Value::Text(text)) => Ok(mlua::Value::String(lua.create_string(text)?)),
            Some(Value::Number(number)) => Ok(mlua::Value::Number(*number)),
            Some(Value::Bool(on)) => Ok(mlua::Value::Boolean(*on)),
            _ => Ok(mlua::Value::Nil),
        };
    }
    let line = line(lua);
    let mlua::Value::Table(table) = value else { return Err(stop(line, "settings: wants a table (write settings{ … })")) };
    let table = state.keep.borrow_mut().table(&table).map_err(|message| stop(line, format!("settings: {message}")))?;
    state.settings.borrow_mut().extend(named(table, line));
    Ok(mlua::Value::Nil)
}

/// A name that stands alone is switched on.
fn named(table: Table, line: Option<usize>) -> BTreeMap<String, At<Value>> {
    let alone = table.list.into_iter().map(|value| match value {
        Value::Text(name) => (name, Value::Bool(true)),
        // No setting has such a name.
        other => (format!("[{}]", other.kind()), other),
    });
    let at = |(key, value): (String, Value)| {
        let at = At { value, line, column: None, key: format!("settings.{key}") };
        (key, at)
    };
    table.named.into_iter().chain(alone).map(at).collect()
}

fn sync(lua: &Lua, state: &State, value: mlua::Value) -> mlua::Result<()> {
    let line = line(lua);
    assigned(lua, state)?;
    let mlua::Value::Table(table) = value else { return Err(stop(line, "sync: wants a table (write sync{ … })")) };
    let written = state.keep.borrow_mut().table(&table).map_err(|message| stop(line, format!("sync: {message}")))?;
    let mut table = Table::default();
    table.inherit(&written);
    let mut syncs = state.syncs.borrow_mut();
    if syncs.len() == MOST_SYNCS {
        return Err(stop(line, format!("sync: there are more than {MOST_SYNCS} (write fewer)")));
    }
    syncs.push(Call { line, table, settings: state.settings.borrow().clone() });
    Ok(())
}

/// `settings = { … }`, as lsyncd had it before 2.1: the function has given way to a table.
fn assigned(lua: &Lua, state: &State) -> mlua::Result<()> {
    if let mlua::Value::Table(table) = lua.globals().raw_get("settings")? {
        let table = state.keep.borrow_mut().table(&table).map_err(|message| stop(None, format!("settings: {message}")))?;
        state.settings.borrow_mut().extend(named(table, None));
    }
    Ok(())
}

/// Lua's own words, with the place that it gives.
fn explain(error: &mlua::Error, file: &Path) -> ConfigError {
    let placed = |line, message: String| ConfigError::in_file(file, line, None, message);
    match error {
        mlua::Error::CallbackError { cause, .. } | mlua::Error::WithContext { cause, .. } => explain(cause, file),
        mlua::Error::ExternalError(cause) => match cause.downcast_ref::<Stop>() {
            Some(Stop { line, message }) => placed(*line, message.clone()),
            None => placed(None, short(&cause.to_string())),
        },
        mlua::Error::SyntaxError { message, .. } => {
            let (line, message) = own_place(message);
            placed(line, format!("is not Lua: {message} (name lsyncd's configuration, or sersync's confxml.xml)"))
        }
        mlua::Error::RuntimeError(message) => {
            let (line, message) = own_place(message);
            placed(line, message)
        }
        mlua::Error::MemoryError(_) => placed(None, format!("takes more than {} MiB of memory in Lua (write plain tables)", MEMORY >> 20)),
        other => placed(None, short(&other.to_string())),
    }
}

/// `lua:3: what is wrong`, without the traceback that may follow.
fn own_place(message: &str) -> (Option<usize>, String) {
    let message = message.split("\nstack traceback:").next().unwrap_or(message);
    let place = message.strip_prefix(CHUNK).and_then(|rest| rest.strip_prefix(':')).and_then(|rest| rest.split_once(": "));
    match place.and_then(|(line, rest)| Some((line.parse().ok()?, rest))) {
        Some((line, rest)) => (Some(line), short(rest)),
        None => (None, short(message)),
    }
}
