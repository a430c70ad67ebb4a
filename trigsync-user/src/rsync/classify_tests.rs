//! What follows from what rsync prints: real texts, with the verdict of each.

use std::{num::NonZeroU32, path::Path};

use super::*;
use crate::config::{Filter, InPlace, TargetConfig};

/// What rsync prints, with what follows from it. Most texts were provoked with 3.5.0, only their directories replaced; those of time-outs,
/// signals, rsync#910, a daemon's limit, an unknown `@ERROR` and two kinds of trouble at once are put together from rsync's own format
/// strings. A case is a header of `key: value` lines, a line `--`, and the text; cases are parted by `====`.
const CASES: [(&str, &str); 4] = [
    ("paths", include_str!("cases/paths.txt")),
    ("daemon", include_str!("cases/daemon.txt")),
    ("ssh", include_str!("cases/ssh.txt")),
    ("network", include_str!("cases/network.txt")),
];

fn address(text: &str) -> TargetAddress {
    match text {
        "local" => TargetAddress::Local("/mnt/dst".into()),
        "module" => TargetAddress::Daemon { user: None, host: "backup".into(), port: None, module: "m".into(), path: String::new() },
        "module/sub" => TargetAddress::Daemon { user: None, host: "backup".into(), port: None, module: "m".into(), path: "sub".into() },
        "ssh" => TargetAddress::Ssh { user: None, host: "backup".into(), port: None, path: "/mnt/dst".into() },
        other => panic!("unknown target {other}"),
    }
}

fn answer(to: &str, filter: &Filter, exit: Exit, text: &[u8]) -> Answer {
    let target = TargetConfig {
        name: "t".into(),
        address: address(to),
        password_file: None,
        identity: None,
        options: Vec::new(),
        bandwidth_limit: None,
        connections: NonZeroU32::MIN,
        warm: 0,
        inplace: InPlace::default(),
        timeout: Duration::from_secs(60),
        modify_window: -1,
    };
    let route = Route { source: Path::new("/srv/src"), filter, cross_mounts: false, keep: false, target: &target };
    let mut findings = Findings::new(&route, None);
    text.split(|&byte| byte == b'\n').for_each(|line| findings.line(line));
    findings.answer(exit)
}

fn written(verdict: &Verdict) -> String {
    let paths = |paths: &[RelPathBuf]| paths.iter().map(|path| format!("[{path}]")).collect::<Vec<_>>().join(" ");
    match verdict {
        Verdict::Done => "Done".into(),
        Verdict::Vanished(vanished) => format!("Vanished {}", paths(vanished)),
        Verdict::Withheld(due) => format!("Withheld {due}"),
        Verdict::Partial { paths: failed, reason, .. } => format!("Partial {} {reason}", paths(failed)),
        Verdict::MissingArgsRefused(reason) => format!("MissingArgsRefused {reason}"),
        Verdict::Full { reason, limit: Some(limit) } => format!("Full of {limit} {reason}"),
        Verdict::Full { reason, limit: None } => format!("Full {reason}"),
        Verdict::Retry(reason) => format!("Retry {reason}"),
        Verdict::NoSpace(reason) => format!("NoSpace {reason}"),
        Verdict::Hold(reason) => format!("Hold {reason}"),
        Verdict::Stopped => "Stopped".into(),
    }
}

#[test]
fn texts_that_rsync_printed() {
    let mut wrong = Vec::new();
    for (file, cases) in CASES {
        for case in cases.split("====\n") {
            let (header, text) = case.split_once("--\n").unwrap();
            let value = |key: &str| header.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            let filter = value("filter").map_or_else(Filter::none, |rule| Filter::new(&[rule.into()]).unwrap());
            let code = value("code").unwrap().parse().unwrap();
            let verdict = written(&answer(value("to").unwrap(), &filter, Exit::Code(code), text.as_bytes()).verdict);
            if Some(&*verdict) != value("verdict") {
                wrong.push(format!("{file}: {}\n  is {verdict}", header.trim_end()));
            }
            assert!(!verdict.contains('\n'), "one line: {verdict}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ends_without_a_code() {
    let verdict = |exit| written(&answer("local", &Filter::none(), exit, b"").verdict);
    assert_eq!(verdict(Exit::Stopped), "Stopped");
    assert_eq!(verdict(Exit::Signal(9)), "Retry rsync was killed by signal 9");
    assert!(verdict(Exit::NotStarted(std::io::ErrorKind::NotFound.into())).starts_with("Hold rsync was not found; install it"));
    assert!(verdict(Exit::NotStarted(std::io::ErrorKind::OutOfMemory.into())).starts_with("Retry "));
    assert_eq!(verdict(Exit::Code(77)), "Retry rsync did not say why it failed (rsync ended with code 77)");
}

#[test]
fn statistics_of_every_version() {
    let text = b"Number of created files: 1,234 (reg: 1,000, dir: 234)\nNumber of deleted files: 5 (reg: 3, dir: 2)\n\
                 Number of regular files transferred: 3\nTotal bytes sent: 12.589.279\nTotal bytes received: 86\n";
    let stats = answer("local", &Filter::none(), Exit::Code(0), text).stats;
    let expected = Stats { created: 1234, deleted: 5, transferred: 3, bytes_sent: 12_589_279, bytes_received: 86, withheld: 0 };
    assert_eq!(stats, expected);
}

#[test]
fn withheld_deletions_are_told_beside_other_trouble() {
    let text = b"Deletions stopped due to --max-delete limit (3 skipped)\nfile has vanished: \"/srv/src/a\"\n";
    let answer = answer("local", &Filter::none(), Exit::Code(24), text);
    assert_eq!(answer.stats.withheld, 3);
    assert_eq!(written(&answer.verdict), "Vanished [a]");
}

#[test]
fn a_flood_of_errors_stays_in_bounds() {
    let mut text = Vec::new();
    for number in 0..PATHS + 10 {
        text.extend_from_slice(format!("file has vanished: \"/srv/src/{number}\"\n").as_bytes());
    }
    let Verdict::Partial { paths, .. } = answer("local", &Filter::none(), Exit::Code(24), &text).verdict else { panic!("not partial") };
    assert_eq!(paths.len(), PATHS);
    let text: Vec<u8> = (0..1000).flat_map(|number| format!("oops {number}\n").into_bytes()).collect();
    let verdict = written(&answer("local", &Filter::none(), Exit::Code(12), &text).verdict);
    assert_eq!(verdict, "Retry oops 0 (and 999 more)");
}

#[test]
fn progress_lines() {
    let line = b"         588,899  99%  561.61MB/s    0:00:00 (xfr#3, to-chk=6/10)";
    assert_eq!(parse_progress(line), Some(Progress { bytes: 588_899, percent: 99, to_check: Some((6, 10)) }));
    let line = b"              3   0%    0.00kB/s    0:00:00 (xfr#1, ir-chk=1000/1234)";
    assert_eq!(parse_progress(line), Some(Progress { bytes: 3, percent: 0, to_check: Some((1000, 1234)) }));
    assert_eq!(parse_progress(b"      3   0%    0.00kB/s    0:00:00  "), Some(Progress { bytes: 3, percent: 0, to_check: None }));
    assert_eq!(parse_progress(b"rsync: oops"), None);
}

#[test]
fn what_is_not_named_may_be_anything() {
    const NAMED: &str = "rsync: [sender] send_files failed to open \"/srv/src/a\": Permission denied (13)\n";
    let all_named = |text: &str| match answer("local", &Filter::none(), Exit::Code(23), text.as_bytes()).verdict {
        Verdict::Partial { all_named, .. } => all_named,
        other => panic!("{other:?}"),
    };
    let end = "rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1394) [sender=3.5.0]\n";
    assert!(all_named(&format!("{NAMED}{end}")));
    assert!(!all_named(end), "nothing is named");
    assert!(
        !all_named(&format!("{NAMED}IO error encountered -- skipping file deletion\n{end}")),
        "deletions were skipped, nobody says where"
    );
    let many: String = (0..=PATHS).map(|index| NAMED.replace("src/a", &format!("src/{index}"))).collect();
    assert!(!all_named(&format!("{many}{end}")), "more than are kept");
}

#[test]
fn what_broke_in_the_middle_may_have_left_something() {
    let interrupted = |code, text: &str| answer("module", &Filter::none(), Exit::Code(code), text.as_bytes()).interrupted;
    assert!(interrupted(10, "rsync: [sender] read error: Connection reset by peer (104)\n"));
    assert!(!interrupted(10, "rsync: [sender] failed to connect to backup (192.0.2.1): Connection refused (111)\n"));
    assert!(interrupted(12, "rsync: connection unexpectedly closed (806 bytes received so far) [sender]\n"));
    assert!(!interrupted(23, "") && !interrupted(5, "@ERROR: Unknown module 'm'\n"));
}
