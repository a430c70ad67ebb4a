//! The filter and a real rsync agree: on what is sent, and on what is never deleted.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    io::Write,
    net::TcpListener,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};
use trigsync::{
    config::Filter,
    model::{RelPath, RelPathBuf},
};

/// Names that are common, and names that an escaping mistake would show on.
const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"ab",
    b"abc",
    b"a.tmp",
    b"keep.tmp",
    b"*",
    b"**",
    b"a*b",
    b"?",
    b"[a]",
    b"a\\b",
    b"\\",
    b"\\*",
    b"#a",
    b"!a",
    b"{a,b}",
    b"- a",
    b"+",
    b" a",
    b"a ",
    b"a\n",
    b"-",
    b"]",
    b"^",
    b"\xff",
    b"a\xff",
    "é".as_bytes(),
    b"_",
    b"A",
    b"a-b",
    b"***",
];

fn name() -> impl Strategy<Value = Vec<u8>> {
    select(NAMES).prop_map(<[u8]>::to_vec)
}

/// A tree as the list of its paths; the directories end in a slash.
fn tree() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    vec(vec(prop_oneof![3 => select(vec![b"a".to_vec(), b"b".to_vec(), b"ab".to_vec()]), 2 => name()], 1..5), 1..25)
}

/// A piece of a name in gitignore's language.
fn piece() -> impl Strategy<Value = String> {
    let literal =
        select(vec!["a", "b", "c", "tmp", ".", "-", "é", "A", "{a,b}", "{", " ", "]", ",", "^", "!", "+"]).prop_map(str::to_owned);
    let escaped = select(vec!["\\*", "\\?", "\\[", "\\\\", "\\#", "\\!", "\\a", "\\ ", "\\{"]).prop_map(str::to_owned);
    let wild = select(vec!["*", "*", "?", "**"]).prop_map(str::to_owned);
    let class = select(vec![
        "[ab]", "[a-c]", "[!a]", "[^b]", "[*]", "[]a]", "[!]]", "[a-]", "[\\]]", "[\\\\]", "[!*?]", "[+-0]", "[[]", "[-^]", "[*a]", "[[:]",
    ])
    .prop_map(str::to_owned);
    prop_oneof![4 => literal, 1 => escaped, 3 => wild, 2 => class]
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop_oneof![4 => vec(piece(), 1..3).prop_map(|pieces| pieces.concat()), 3 => select(vec!["a", "b", "ab", "*"]).prop_map(str::to_owned), 2 => Just("**".to_owned())];
    (select(vec!["", "", "!"]), select(vec!["", "", "/", "**/"]), vec(segment, 1..4), select(vec!["", "", "/", "/**"]))
        .prop_map(|(sign, start, segments, end)| format!("{sign}{start}{}{end}", segments.join("/")))
}

/// Creates the tree and tells every path in it, with whether it is a directory.
fn plant(root: &Path, tree: &[Vec<Vec<u8>>]) {
    for names in tree {
        let path = names.iter().fold(root.to_owned(), |path, name| path.join(OsStr::from_bytes(name)));
        // Where a file stands in a directory's place, or the other way round, the first one stays.
        if path.parent().is_some_and(|parent| fs::create_dir_all(parent).is_ok()) && !path.exists() {
            let _ = fs::write(path, "x");
        }
    }
}

fn walk(root: &Path, below: &RelPath, found: &mut BTreeSet<(RelPathBuf, bool)>) {
    for entry in fs::read_dir(root.join(below.as_path())).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name().as_bytes());
        let directory = entry.file_type().unwrap().is_dir();
        if directory {
            walk(root, &path, found);
        }
        found.insert((path, directory));
    }
}

fn paths(root: &Path) -> BTreeSet<(RelPathBuf, bool)> {
    let mut found = BTreeSet::new();
    walk(root, RelPath::root(), &mut found);
    found
}

fn rsync(filter: &Filter, arguments: &[&str], from: &Path, to: &OsStr, list: &[u8]) -> Output {
    let mut source = from.as_os_str().to_owned();
    source.push("/");
    let mut child = Command::new("rsync")
        .args(arguments)
        .args(filter.rsync_rules().iter().map(|rule| format!("--filter={rule}")))
        .arg(source)
        .arg(to)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rsync is installed");
    child.stdin.take().unwrap().write_all(list).unwrap();
    child.wait_with_output().unwrap()
}

fn sent_by_rsync(filter: &Filter, source: &Path) -> BTreeSet<(RelPathBuf, bool)> {
    let target = tempfile::tempdir().unwrap();
    let mut to = target.path().as_os_str().to_owned();
    to.push("/");
    let output = rsync(filter, &["-a", "-r"], source, &to, b"");
    assert!(output.status.success(), "{filter:?} {:?}: {}", filter.rsync_rules(), String::from_utf8_lossy(&output.stderr));
    paths(target.path())
}

fn left_in(filter: &Filter, source: &Path) -> BTreeSet<(RelPathBuf, bool)> {
    paths(source).into_iter().filter(|(path, directory)| !filter.excludes(path, *directory)).collect()
}

fn cases(usual: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// The filter of those patterns that can be used; what is refused has its own tests.
fn usable(mut patterns: Vec<String>) -> Filter {
    patterns.retain(|pattern| Filter::new(std::slice::from_ref(pattern)).is_ok());
    Filter::new(&patterns).unwrap()
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn rsync_sends_what_the_filter_leaves_in(tree in tree(), patterns in vec(pattern(), 1..5)) {
        let filter = usable(patterns);
        let source = tempfile::tempdir().unwrap();
        plant(source.path(), &tree);
        prop_assert_eq!(sent_by_rsync(&filter, source.path()), left_in(&filter, source.path()), "{:?}", filter.rsync_rules());
    }
}

/// Every name as a file and as a directory, against many patterns that only exclude: what differs for one is not hidden by another.
#[test]
fn every_name_meets_many_patterns() {
    let source = tempfile::tempdir().unwrap();
    let files = NAMES.iter().map(|name| vec![b"d".to_vec(), name.to_vec()]);
    let directories = NAMES.iter().map(|name| vec![name.to_vec(), b"x".to_vec(), b"b".to_vec()]);
    plant(source.path(), &files.chain(directories).collect::<Vec<_>>());
    let all = paths(source.path()).len();
    let agree = |patterns: Vec<String>| {
        let excludes = patterns.iter().map(|pattern| pattern.trim_start_matches('!').to_owned());
        // One that takes nearly everything would leave nothing for the others to show.
        let narrow = |pattern: &String| {
            Filter::new(std::slice::from_ref(pattern)).is_ok_and(|filter| left_in(&filter, source.path()).len() * 10 > all * 9)
        };
        let filter = usable(excludes.filter(narrow).collect());
        prop_assert_eq!(sent_by_rsync(&filter, source.path()), left_in(&filter, source.path()), "{:?}", filter.rsync_rules());
        Ok(())
    };
    TestRunner::new(cases(80)).run(&vec(pattern(), 10..30), agree).unwrap();
}

fn filter(patterns: &[&str]) -> Filter {
    Filter::new(&patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>()).unwrap()
}

/// Every row: the patterns, and what of the tree is excluded, as git itself would have it.
#[test]
fn the_corners_of_gitignore() {
    let tree = [
        "a",
        "b/a",
        "b/c/a",
        "cache/x",
        "b/cache/x",
        "keep.tmp",
        "b/x.tmp",
        "b/keep.tmp",
        "d/e/f",
        "d/f",
        "d/x/y/f",
        "b/d/f",
        "{a,b}",
        "a*b",
        "a\\b",
        "#a",
        "!a",
        " a",
        "a ",
        "sub/log",
    ];
    let source = tempfile::tempdir().unwrap();
    plant(source.path(), &tree.map(|path| path.split('/').map(|name| name.as_bytes().to_vec()).collect()));
    let rows: &[(&[&str], &[&str])] = &[
        (&["*.tmp", "!keep.tmp"], &["b/x.tmp"]),
        (&["!keep.tmp", "*.tmp"], &["b/keep.tmp", "b/x.tmp", "keep.tmp"]),
        (&["/cache/"], &["cache", "cache/x"]),
        (&["cache/"], &["b/cache", "b/cache/x", "cache", "cache/x"]),
        (&["a/"], &[]),
        (&["/a"], &["a"]),
        (&["**/a"], &["a", "b/a", "b/c/a"]),
        (&["b/a"], &["b/a"]),
        (&["d/**"], &["d/e", "d/e/f", "d/f", "d/x", "d/x/y", "d/x/y/f"]),
        (&["d/**/f"], &["d/e/f", "d/f", "d/x/y/f"]),
        (&["**/d/f"], &["b/d/f", "d/f"]),
        (&["d/*/f"], &["d/e/f"]),
        (&["d/", "!d/f"], &["b/d", "b/d/f", "d", "d/e", "d/e/f", "d/f", "d/x", "d/x/y", "d/x/y/f"]),
        (&["/d/*", "!/d/f"], &["d/e", "d/e/f", "d/x", "d/x/y", "d/x/y/f"]),
        (&["{a,b}"], &["{a,b}"]),
        (&["a\\*b"], &["a*b"]),
        (&["a?b"], &["a*b", "a\\b"]),
        (&["a\\\\b"], &["a\\b"]),
        (&["a[\\\\]b"], &["a\\b"]),
        (&["\\#a", "\\!a"], &["!a", "#a"]),
        (&[" a"], &[" a"]),
        (&["a\\ "], &["a "]),
        (&["a   "], &["a", "b/a", "b/c/a"]),
        (&["s[+-0]b/l*", "sub[!a]log"], &[]),
    ];
    for (patterns, expected) in rows {
        let filter = filter(patterns);
        let left = left_in(&filter, source.path());
        let excluded: Vec<_> =
            paths(source.path()).difference(&left).map(|(path, _)| String::from_utf8(path.as_bytes().to_vec()).unwrap()).collect();
        let mut expected: Vec<_> = expected.iter().map(|&path| path.to_owned()).collect();
        expected.sort_by(|one, other| RelPath::new(one.as_bytes()).unwrap().cmp(RelPath::new(other.as_bytes()).unwrap()));
        assert_eq!(excluded, expected, "{patterns:?}");
        assert_eq!(sent_by_rsync(&filter, source.path()), left, "{patterns:?} {:?}", filter.rsync_rules());
    }
}

/// rsync's daemon on a free port of the loopback, with one writable module `m`.
struct Daemon {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let configuration = directory.path().join("rsyncd.conf");
        let module = directory.path().join("m");
        fs::create_dir(&module).unwrap();
        // SAFETY: geteuid takes nothing and cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        let owner = if root { "uid = root\ngid = root\n" } else { "" };
        fs::write(&configuration, format!("use chroot = no\n{owner}[m]\npath = {}\nread only = no\n", module.display())).unwrap();
        let child = Command::new("rsync")
            .args(["--daemon", "--no-detach", "--address=127.0.0.1", &format!("--port={port}")])
            .arg(format!("--config={}", configuration.display()))
            .stdin(Stdio::null())
            .spawn()
            .expect("rsync is installed");
        let end = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "the rsync daemon does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, directory }
    }

    fn module(&self) -> std::path::PathBuf {
        self.directory.path().join("m")
    }

    fn url(&self) -> OsString {
        OsString::from_vec(format!("rsync://127.0.0.1:{}/m/", self.port).into_bytes())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_excluded_is_never_deleted_at_the_target() {
    let daemon = Daemon::start();
    let source = tempfile::tempdir().unwrap();
    plant(source.path(), &[vec![b"web".to_vec(), b"index".to_vec()]]);
    let target = daemon.module();
    let kept = ["web/a.tmp", "cache/x", "gone/deep/b.tmp", "gone/c.tmp"];
    let stale = ["web/stale", "gone/deep/stale", "gone/stale"];
    let plant_target = || {
        plant(
            &target,
            &[&kept[..], &stale[..]]
                .concat()
                .iter()
                .map(|path| path.split('/').map(|name| name.as_bytes().to_vec()).collect())
                .collect::<Vec<_>>(),
        )
    };
    let filter = filter(&["*.tmp", "/cache/"]);
    let check = |output: &Output, how: &str| {
        for path in kept {
            assert!(target.join(path).exists(), "{how}: {path} was deleted: {output:?}");
        }
    };

    plant_target();
    let output = rsync(&filter, &["-a", "-r", "--delete", "--force"], source.path(), &daemon.url(), b"");
    assert!(output.status.success(), "{output:?}");
    check(&output, "a full pass");
    for path in stale {
        assert!(!target.join(path).exists(), "a full pass left {path}");
    }

    plant_target();
    let batch = ["-a", "--delete", "--delete-missing-args", "--force", "--from0", "--files-from=-"];
    let output = rsync(&filter, &batch, source.path(), &daemon.url(), b"/gone\0");
    check(&output, "a batch that deletes a directory");
    for path in ["gone/deep/stale", "gone/stale"] {
        assert!(!target.join(path).exists(), "a batch left {path}: {output:?}");
    }
    // The root itself is never excluded, not even by a pattern that fits every name, or one of a single byte like rsync's `.`.
    plant_target();
    let root = ["-a", "-r", "--delete", "--from0", "--files-from=-"];
    for (pattern, sent) in [("*", false), ("?", true), ("[!a]", true)] {
        fs::remove_dir_all(target.join("web")).unwrap();
        plant(&target, &[vec![b"web".to_vec(), b"a.tmp".to_vec()]]);
        let filter = Filter::new(&["*.tmp", "/cache/", "/gone/", pattern].map(str::to_owned)).unwrap();
        let output = rsync(&filter, &root, source.path(), &daemon.url(), b"/.\0");
        assert!(output.status.success(), "{pattern}: {output:?}");
        assert_eq!(target.join("web/index").exists(), sent, "{pattern}: {output:?}");
        check(&output, pattern);
    }
}
