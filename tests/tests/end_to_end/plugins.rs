//! Plugins against real listeners: what they are told, whatever files are called, and that nothing waits for one that hangs or fails.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use trigsync_tests::{
    compare,
    listener::{HttpRequest, Listener},
    mirror::{Launch, Mirror},
    process::eventually,
    room::Room,
    rsyncd::free_port,
    skip, tree,
};

const LIMIT: Duration = Duration::from_secs(20);

/// What a shell, a line, an option or a text would take for something else.
const HOSTILE: [&[u8]; 8] =
    [b"plain", b"new\nline", b"quo'te\"s", b"$(touch pwned)", b"`touch pwned`;&|", b"-rf", b"not utf-8 \xff\xfe", b" blanks \t"];

/// A daemon with one sync, `www`, and these lines for its plugins.
fn launch<'a>(room: &'a Room, plugins: &str) -> Launch<'a> {
    launch_with(room, "", plugins)
}

fn launch_with<'a>(room: &'a Room, keys: &str, plugins: &str) -> Launch<'a> {
    let (source, target) = (room.source(), room.target());
    Launch::config(
        room,
        &format!("stop_timeout = \"2s\"\n{keys}[[sync]]\nname = \"www\"\nsource = {source:?}\ntargets = [{target:?}]\n{plugins}"),
    )
}

/// Makes the hostile files in `directory` of the source, in a batch of their own, after everything before has arrived and was told.
fn hostile_files(mirror: &Mirror<'_>, room: &Room, directory: &str) {
    told_all(mirror);
    let directory = room.source().join(directory);
    fs::create_dir(&directory).expect("a directory in the source");
    for name in HOSTILE {
        fs::write(directory.join(OsStr::from_bytes(name)), name).expect("a file in the source");
    }
    told_all(mirror);
}

/// Waits until everything has arrived, and the plugins were told of it.
fn told_all(mirror: &Mirror<'_>) {
    mirror.flush();
    mirror.until("the plugins were told", LIMIT, |status| {
        let plugins = status.sync("www")["plugins"].as_array().cloned().unwrap_or_default();
        plugins.iter().all(|plugin| plugin["pending"] == 0).then_some(())
    });
}

/// One figure of the first plugin.
fn figure(mirror: &Mirror<'_>, name: &str) -> u64 {
    mirror.status().sync("www")["plugins"][0][name].as_u64().unwrap_or_else(|| panic!("no {name} in {:#}", mirror.status().0))
}

/// The hostile paths in `directory`, of a list in which each is ended by `end`.
fn listed(bytes: &[u8], directory: &str, end: u8) -> BTreeSet<Vec<u8>> {
    let prefix = format!("{directory}/").into_bytes();
    bytes
        .split(|byte| *byte == end)
        .filter_map(|path| path.strip_prefix(&prefix[..]))
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

/// What a scraper gets.
fn metrics(address: &str) -> String {
    let mut connection = TcpStream::connect(address).expect("metrics are served");
    write!(connection, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("it answers in UTF-8");
    answer
}

fn hostile() -> BTreeSet<Vec<u8>> {
    HOSTILE.iter().map(|name| name.to_vec()).collect()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}

/// A program that appends what it is told to a file, and the file.
fn teller(room: &Room, script: &str) -> (PathBuf, PathBuf) {
    let told = room.at("told");
    (room.program("tell", &script.replace("TOLD", told.to_str().expect("plain"))), told)
}

#[test]
fn a_program_gets_the_list_of_what_has_arrived() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    // Whatever is told has arrived: what is not at the target when the program runs is noted.
    let check = format!(
        "tr '\\0' '\\n' < 'TOLD.now' | grep '/plain$' | while read -r path; do test -e '{}'/\"$path\" || echo \"$path\" >> 'TOLD.early'; done",
        room.target().display()
    );
    let (program, told) = teller(&room, &format!("cat > 'TOLD.now'; cat 'TOLD.now' >> 'TOLD'; {check}"));
    let mirror = launch(&room, &format!("[[sync.plugin]]\nname = \"list\"\nkind = \"exec\"\ncommand = [{program:?}]\n")).start();
    hostile_files(&mirror, &room, "one");
    assert_eq!(listed(&read(&told), "one", 0), hostile());
    assert!(read(&told).windows(5).any(|bytes| bytes == b"\0one/" || bytes == b"one/\0"), "a directory ends with a slash");
    for number in 0..20 {
        let directory = room.source().join(format!("n{number}"));
        fs::create_dir(&directory).expect("a directory in the source");
        fs::write(directory.join("plain"), "plain").expect("a file in the source");
    }
    told_all(&mirror);
    assert!(!room.at("told.early").exists(), "told too early: {}", String::from_utf8_lossy(&read(&room.at("told.early"))));
    assert!(!room.source().join("pwned").exists() && !room.source().join("one/pwned").exists(), "a name was run");
    assert_eq!(figure(&mirror, "failures"), 0);
}

#[test]
fn each_path_is_an_argument_where_the_command_says_so() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (program, told) = teller(&room, "printf '%s\\0' \"$TRIGSYNC_CHANGE $1=$2\" >> 'TOLD'");
    let plugin = format!(
        "[[sync.plugin]]\nname = \"each\"\nkind = \"exec\"\ncommand = [{program:?}, \"{{path}}\", \"is {{path}}\"]\nonly = [\"/two/\", \"/-rf\"]\n"
    );
    let mirror = launch(&room, &plugin).start();
    hostile_files(&mirror, &room, "two");
    let told_of = |change: &str| {
        let of = |name: &[u8]| [change.as_bytes(), b" two/", name, b"=is two/", name].concat();
        let bytes = read(&told);
        let words: BTreeSet<_> = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        HOSTILE.iter().all(|name| words.contains(&of(name)))
    };
    assert!(told_of("written"), "{}", String::from_utf8_lossy(&read(&told)));
    fs::write(room.source().join("-rf"), "an option, were it not for the dot").expect("a file in the source");
    fs::write(room.source().join("-v"), "left out by `only`").expect("a file in the source");
    for name in HOSTILE {
        fs::remove_file(room.source().join("two").join(OsStr::from_bytes(name))).expect("it is there");
    }
    told_all(&mirror);
    assert!(told_of("deleted"), "{}", String::from_utf8_lossy(&read(&told)));
    let text = String::from_utf8_lossy(&read(&told)).into_owned();
    assert!(text.contains("written ./-rf=is ") && !text.contains("-v"), "{text}");
    assert!(!room.source().join("pwned").exists(), "a name was run");
}

#[test]
fn what_a_program_writes_into_the_source_is_mirrored_too() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let program = room.program("make", "cat \"$1\" > \"${1%.in}.out\"");
    let plugin = format!(
        "[[sync.plugin]]\nname = \"make\"\nkind = \"exec\"\ncommand = [{program:?}, \"{{path}}\"]\nonly = [\"*.in\"]\nwhole = false\n"
    );
    let mirror = launch(&room, &plugin).start();
    told_all(&mirror);
    fs::write(room.source().join("a.in"), "made").expect("a file in the source");
    eventually("what was made has arrived", LIMIT, || (read(&room.target().join("a.out")) == b"made").then_some(()));
    mirror.flush();
    compare::assert_equal(&room.source(), &room.target());
}

#[test]
fn a_connection_gets_paths_as_the_separator_says() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let [nul, newline, each] = [(); 3].map(|()| Listener::tcp());
    let plugin = |name: &str, to: &Listener<Vec<u8>>, more: &str| {
        format!("[[sync.plugin]]\nname = \"{name}\"\nkind = \"tcp\"\nto = \"{}\"\n{more}", to.address)
    };
    let plugins = plugin("nul", &nul, "")
        + &plugin("newline", &newline, "separator = \"newline\"\n")
        + &plugin("each", &each, "separator = \"connection\"\nabsolute = true\nexclude = [\"/three/-rf\"]\n");
    let mirror = launch(&room, &plugins).start();
    hostile_files(&mirror, &room, "three");
    // The connection is closed before all of it was read.
    eventually("all is heard", LIMIT, || (listed(&nul.heard().concat(), "three", 0) == hostile()).then_some(()));
    eventually("all lines are heard", LIMIT, || {
        let lines = listed(&newline.heard().concat(), "three", b'\n');
        (lines.len() == HOSTILE.len() - 1 && lines.iter().all(|name| HOSTILE.contains(&&name[..]))).then_some(())
    });
    let of = |name: &&[u8]| [room.source().join("three").as_os_str().as_bytes(), b"/", name].concat();
    let wanted: BTreeSet<_> = HOSTILE.iter().filter(|name| **name != b"-rf").map(of).collect();
    eventually("each is heard by itself", LIMIT, || wanted.is_subset(&each.heard().into_iter().collect()).then_some(()));
    assert!(!each.heard().contains(&of(&&b"-rf"[..])), "`exclude` does not hold");
}

#[test]
fn requests_that_fail_are_repeated_until_all_was_told() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    // The answer that asks for patience counts as a failure that may pass, like the others.
    let server = Listener::http(|number| [200, 200, 503, 200, 200, 429][(number - 1) % 6]);
    let secret = room.secret("token", "the secret\n");
    let plugin = format!(
        "[[sync.plugin]]\nname = \"hook\"\nkind = \"http\"\nurl = \"http://{}/told?a=b\"\nheaders = {{ Authorization = \"Bearer {{secret}}\" }}\n\
         secret_file = {secret:?}\nbatch = 3\n",
        server.address
    );
    let mirror = launch(&room, &plugin).start();
    for directory in ["a", "b", "c"] {
        hostile_files(&mirror, &room, directory);
    }
    let (good, bad): (Vec<_>, Vec<_>) = server.heard().into_iter().partition(|request| request.answer == 200);
    assert!(
        bad.len() >= 2 && figure(&mirror, "failures") == bad.len() as u64 && figure(&mirror, "dropped") == 0,
        "{:#}",
        mirror.status().0
    );
    let mut told = BTreeSet::new();
    for HttpRequest { method, target, headers, body, .. } in &good {
        assert_eq!((method.as_str(), target.as_str()), ("POST", "/told?a=b"));
        assert!(headers.iter().any(|header| header.eq_ignore_ascii_case("authorization: Bearer the secret")), "{headers:?}");
        assert!(headers.iter().any(|header| header.eq_ignore_ascii_case("content-type: application/json")), "{headers:?}");
        let json: Value = serde_json::from_slice(body).expect("JSON");
        assert_eq!((&json["sync"], &json["target"]), (&"www".into(), &Value::Null));
        let changes = json["changes"].as_array().expect("changes");
        assert!((1..=3).contains(&changes.len()), "{json}");
        told.extend(changes.iter().filter(|change| change["directory"] == false).map(|change| match &change["path"] {
            Value::String(text) => text.clone().into_bytes(),
            bytes => serde_json::from_value(bytes.clone()).expect("bytes"),
        }));
    }
    let of = |directory: &'static str| HOSTILE.iter().map(move |name| [directory.as_bytes(), b"/", name].concat());
    assert_eq!(told, ["a", "b", "c"].into_iter().flat_map(of).collect());
    assert!(!mirror.log().contains("the secret") && !mirror.status().0.to_string().contains("the secret"), "the secret is told");
}

#[test]
fn a_plugin_that_hangs_holds_up_nothing_and_grows_no_further() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let program = room.program("hang", "cat > /dev/null; sleep 1000 & wait");
    let plugin =
        format!("[[sync.plugin]]\nname = \"hangs\"\nkind = \"exec\"\ncommand = [{program:?}]\ntimeout = \"1h\"\nmemory = \"32KiB\"\n");
    let mut mirror = launch(&room, &plugin).start();
    mirror.flush();
    let begun = Instant::now();
    tree::many_files(&room.source().join("many"), 4000);
    mirror.flush();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    compare::assert_equal(&room.source(), &room.target());
    let (pending, folded) = (figure(&mirror, "pending"), figure(&mirror, "folded"));
    // One entry takes a hundred bytes and its path.
    assert!(folded > 3000 && pending < 2 * 32 * 1024 / 100 && figure(&mirror, "told") == 0, "{pending} pending, {folded} folded");
    let sleepers = || {
        fs::read_dir("/proc")
            .expect("/proc is there")
            .flatten()
            .filter(|entry| {
                read(&entry.path().join("cmdline")) == b"sleep\x001000\0"
                    && fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == room.source())
            })
            .count()
    };
    assert_eq!(sleepers(), 1, "one run at a time");
    let begun = Instant::now();
    mirror.stop();
    let took = begun.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(8)).contains(&took), "{took:?}");
    mirror.until_logged("were not told in the time of a stop");
    assert_eq!(sleepers(), 0, "what it has started ends with it");
}

#[test]
fn a_plugin_that_fails_shows_in_status_check_and_metrics() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let program = room.program("fail", "test -e \"$0.mended\" || { echo 'out of luck' >&2; exit 7; }");
    let plugin = format!("[[sync.plugin]]\nname = \"fails\"\nkind = \"exec\"\ncommand = [{program:?}]\nattempts = 2\n");
    let address = format!("127.0.0.1:{}", free_port());
    let mirror = launch_with(&room, &format!("metrics = \"{address}\"\n"), &plugin).start();
    fs::write(room.source().join("file"), "file").expect("a file in the source");
    mirror.flush();
    mirror.until("its paths are given up", LIMIT, |status| {
        let plugin = &status.sync("www")["plugins"][0];
        (plugin["dropped"].as_u64() > Some(0) && plugin["failures"].as_u64() >= Some(2) && plugin["pending"] == 0).then_some(())
    });
    let reason = "ended with exit status: 7: out of luck";
    assert!(mirror.status().sync("www")["plugins"][0]["trouble"].as_str().is_some_and(|trouble| trouble.ends_with(reason)));
    let text = mirror.ask(&["status"]).expect(0).stdout;
    assert!(text.contains("plugin fails (exec ") && text.contains("plugin fails FAILS: ") && text.contains(reason), "{text}");
    let line = mirror.ask(&["check"]).expect(1).stdout;
    assert!(line.starts_with("TRIGSYNC WARNING - www: plugin fails fails: ") && line.contains(reason), "{line}");
    mirror.until_logged(reason);
    let metric = |name: &str| {
        let answer = metrics(&address);
        let line = answer.lines().find(|line| line.starts_with(&format!("trigsync_plugin_{name}{{sync=\"www\",plugin=\"fails\"}}")));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_else(|| panic!("no {name} in {answer}"))
    };
    assert!(metric("failing") == 1.0 && metric("failures_total") >= 2.0 && metric("dropped_total") >= 1.0);
    fs::write(format!("{}.mended", program.display()), "").expect("a file beside the program");
    fs::write(room.source().join("file"), "again").expect("a file in the source");
    told_all(&mirror);
    assert!(mirror.status().sync("www")["plugins"][0]["trouble"].is_null() && metric("failing") == 0.0);
    mirror.ask(&["check"]).expect(0);
}

#[test]
fn a_plugin_waits_for_all_targets_or_for_the_one_it_names() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (source, near, far) = (room.source(), room.directory("near"), room.directory("far"));
    let [all, one] = ["all", "one"].map(|name| room.program(name, "cat >> \"$0.told\""));
    let plugin = |name: &str, program: &Path, more: &str| {
        format!("[[sync.plugin]]\nname = \"{name}\"\nkind = \"exec\"\ncommand = [{program:?}]\n{more}")
    };
    let text = format!("[[sync]]\nname = \"www\"\nsource = {source:?}\ntargets = [{near:?}, {far:?}]\n")
        + &plugin("all", &all, "")
        + &plugin("one", &one, &format!("after = {near:?}\n"));
    let told = |program: &Path| listed(&read(&room.programs().join(format!("{}.told", program.display()))), "d", 0);
    let mirror = Launch::config(&room, &text).start();
    told_all(&mirror);
    mirror.ask(&["hold", "--target", far.to_str().expect("plain")]).expect(0);
    fs::create_dir(source.join("d")).expect("a directory in the source");
    fs::write(source.join("d/file"), "file").expect("a file in the source");
    eventually("the one is told", LIMIT, || told(&one).contains(&b"file"[..]).then_some(()));
    std::thread::sleep(Duration::from_secs(1));
    assert!(!told(&all).contains(&b"file"[..]), "the other target has not got it");
    assert!(figure(&mirror, "pending") > 0);
    mirror.ask(&["release", "--target", far.to_str().expect("plain")]).expect(0);
    eventually("all have it", LIMIT, || told(&all).contains(&b"file"[..]).then_some(()));
    assert!(far.join("d/file").exists());
    told_all(&mirror);
}

#[test]
fn a_cache_is_purged_url_by_url_or_in_batches() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let [cache, service] = [(); 2].map(|()| Listener::http(|_| 200));
    let plugins = format!(
        "[[sync.plugin]]\nname = \"cache\"\nkind = \"purge\"\nbase = \"http://{}/cms\"\nexclude = [\"/b*/\"]\nwhole = false\n\
         [[sync.plugin]]\nname = \"service\"\nkind = \"purge\"\nbase = \"https://www.example.org/\"\nmatch = \"^b(\\\\d+)/(.*)$\"\nreplace = \"n$1/$2\"\n\
         url = \"http://{}/zones/purge\"\nbody = '{{\"files\": {{urls}}}}'\nbatch = 10\nrate = 5\n",
        cache.address, service.address
    );
    let mirror = launch(&room, &plugins).start();
    hostile_files(&mirror, &room, "a");
    let purged: BTreeSet<_> = cache.heard().into_iter().map(|request| (request.method, request.target)).collect();
    for target in
        ["/cms/a/plain", "/cms/a/new%0Aline", "/cms/a/quo'te%22s", "/cms/a/$(touch%20pwned)", "/cms/a/not%20utf-8%20%FF%FE", "/cms/a/"]
    {
        assert!(purged.contains(&("PURGE".to_owned(), target.to_owned())), "{target}: {purged:?}");
    }
    tree::many_files(&room.source().join("b0"), 100);
    told_all(&mirror);
    let requests = service.heard();
    let mut urls = BTreeSet::new();
    for request in &requests {
        let json: Value = serde_json::from_slice(&request.body).expect("JSON");
        let files: Vec<String> = serde_json::from_value(json["files"].clone()).expect("URLs");
        assert!(
            (1..=10).contains(&files.len()) && (request.method.as_str(), request.target.as_str()) == ("POST", "/zones/purge"),
            "{request:?}"
        );
        urls.extend(files);
    }
    assert!((0..100).all(|number| urls.contains(&format!("https://www.example.org/n0/d0/f{number}"))), "{urls:?}");
    assert!(urls.iter().all(|url| url.starts_with("https://www.example.org/n0/")), "what does not match is not purged: {urls:?}");
    let took = requests.last().map(|last| last.at - requests[0].at).unwrap_or_default();
    // What was made first may have gone long before the rest; each is a fifth of a second after the one before.
    assert!(
        took > Duration::from_millis(180) * (requests.len() as u32 - 1),
        "{} requests in {took:?}, five a second are allowed",
        requests.len()
    );
    assert!(requests.len() >= 10);
}

#[test]
fn a_reload_keeps_what_stays_and_ends_what_goes() {
    if skip::without_root() {
        return;
    }
    let room = Room::new();
    let (program, told) = teller(&room, "cat >> 'TOLD'");
    let plugin = format!("[[sync.plugin]]\nname = \"list\"\nkind = \"exec\"\ncommand = [{program:?}]\n");
    let launch = launch(&room, &plugin);
    let mirror = launch.start();
    hostile_files(&mirror, &room, "a");
    let before = figure(&mirror, "told");
    // The lanes begin anew, with the same plugin.
    launch_with(&room, "", &format!("settle = {{ quiet = \"30ms\" }}\n{plugin}"));
    mirror.reload();
    mirror.until_logged("the configuration was reloaded");
    assert!(before > 0 && figure(&mirror, "told") >= before, "it began anew");
    hostile_files(&mirror, &room, "b");
    assert_eq!(listed(&read(&told), "b", 0), hostile());
    launch_with(&room, "", "");
    mirror.reload();
    mirror.until("there is none", LIMIT, |status| (status.sync("www")["plugins"] == serde_json::json!([])).then_some(()));
    hostile_files(&mirror, &room, "c");
    assert!(listed(&read(&told), "c", 0).is_empty() && room.target().join("c/plain").exists());
}
