//! What rsync is told: exact argument vectors for every kind of target and work.

use std::{num::NonZeroU32, path::PathBuf};

use super::*;
use crate::{
    config::{Filter, InPlace},
    rsync::Progress,
};

const NOW: Version = Version::new(3, 5, 0);

fn target(address: TargetAddress) -> TargetConfig {
    TargetConfig {
        name: "t".into(),
        address,
        password_file: None,
        identity: None,
        options: Vec::new(),
        bandwidth_limit: None,
        connections: NonZeroU32::MIN,
        warm: 0,
        inplace: InPlace::default(),
        timeout: Duration::from_secs(60),
        modify_window: -1,
    }
}

fn ssh(path: &str) -> TargetConfig {
    target(TargetAddress::Ssh { user: Some("deploy".into()), host: "edge1".into(), port: Some(2222), path: path.into() })
}

fn daemon(host: &str, path: &str) -> TargetConfig {
    target(TargetAddress::Daemon { user: Some("web".into()), host: host.into(), port: None, module: "www".into(), path: path.into() })
}

fn told(version: Version, target: &TargetConfig, filter: &Filter, work: Work, deletions: Deletions, progress: bool) -> Vec<String> {
    let route = Route { source: Path::new("/srv/www"), filter, cross_mounts: false, keep: false, target };
    let tell: &(dyn Fn(Progress) + Send + Sync) = &|_| {};
    let run = Run { work, deletions, missing: Missing::Delete, list: Vec::new(), progress: progress.then_some(tell) };
    arguments(version, &route, &run).unwrap().into_iter().map(|argument| argument.into_string().unwrap()).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(Into::into).collect()
}

#[test]
fn entries_to_a_local_directory() {
    let local = target(TargetAddress::Local("/mnt/mirror".into()));
    assert_eq!(
        told(NOW, &local, &Filter::none(), Work::Entries(Compare::Changed), Deletions::Allowed, false),
        words(
            "-a --ignore-times --delete --delete-missing-args --force --one-file-system --modify-window=-1 --stats --no-h --timeout=60 \
             --from0 --files-from=- /srv/www/ /mnt/mirror/"
        )
    );
    assert_eq!(
        told(NOW, &local, &Filter::none(), Work::Entries(Compare::Quick), Deletions::Never, false),
        words("-a --one-file-system --modify-window=-1 --stats --no-h --timeout=60 --from0 --files-from=- /srv/www/ /mnt/mirror/")
    );
}

#[test]
fn files_that_change_in_place() {
    assert_eq!(
        told(NOW, &daemon("backup", ""), &Filter::none(), Work::InPlace(Compare::Changed), Deletions::Allowed, false),
        words(
            "-a --ignore-times --inplace --no-whole-file --delete --delete-missing-args --force --one-file-system --modify-window=-1 --stats --no-h \
             --timeout=60 --contimeout=10 --from0 --files-from=- /srv/www/ rsync://web@backup/www/"
        )
    );
}

#[test]
fn trees_to_a_daemon_with_everything() {
    let mut target = daemon("backup", "sub");
    target.password_file = Some("/etc/pass word".into());
    target.bandwidth_limit = Some("10m".into());
    target.options = vec!["--acls".into(), "--no-owner".into()];
    target.timeout = Duration::from_millis(1500);
    target.modify_window = 1;
    let filter = Filter::new(&["*.tmp".into()]).unwrap();
    let told = told(NOW, &target, &filter, Work::Trees(Compare::Changed), Deletions::Counted, true);
    let rules = filter.rsync_rules().len();
    assert!(rules > 0 && told[..rules].iter().all(|argument| argument.starts_with("--filter=")), "{told:?}");
    let mut expected = words(
        "-a -r --ignore-times --delete --delete-missing-args --force --max-delete=0 --info=progress2 --one-file-system --modify-window=1 --stats --no-h \
         --timeout=2 --bwlimit=10m --contimeout=10 --password-file=/etc/pass_word --from0 --files-from=- --acls --no-owner /srv/www/ \
         rsync://web@backup/www/sub/",
    );
    expected[15] = "--password-file=/etc/pass word".into();
    assert_eq!(told[rules..], expected);
}

#[test]
fn root_attributes_leave_everything_below_alone() {
    let filter = Filter::new(&["*.tmp".into()]).unwrap();
    let mut expected = words(
        "--filter=-_* -a --no-r -d --one-file-system --modify-window=-1 --stats --no-h --timeout=60 --contimeout=10 /srv/www/ \
         rsync://web@backup/www/",
    );
    expected[0] = "--filter=- *".into();
    assert_eq!(told(NOW, &daemon("backup", ""), &filter, Work::RootAttributes, Deletions::Allowed, false), expected);
}

#[test]
fn checksums_over_ssh_from_an_old_rsync() {
    let told = told(Version::new(3, 1, 3), &ssh("/srv/www"), &Filter::none(), Work::Entries(Compare::Checksum), Deletions::Allowed, false);
    let mut expected = words(
        "-a --checksum --delete --delete-missing-args --force --one-file-system --modify-window=-1 --stats --no-h --timeout=60 -e ssh \
         --protect-args --from0 --files-from=- /srv/www/ deploy@edge1:/srv/www/",
    );
    expected[11] = "ssh -o BatchMode=yes -o ConnectTimeout=10 -p 2222".into();
    assert_eq!(told, expected);
}

#[test]
fn identities_are_quoted_for_rsync() {
    let shell = |identity: &str| remote_shell(None, Some(&PathBuf::from(identity))).unwrap().into_string().unwrap();
    assert_eq!(shell("/etc/id_ed25519"), "ssh -o BatchMode=yes -o ConnectTimeout=10 -i /etc/id_ed25519");
    assert_eq!(shell("/my keys/it's \"it\""), "ssh -o BatchMode=yes -o ConnectTimeout=10 -i '/my keys/it''s \"it\"'");
    assert!(remote_shell(None, Some(Path::new("a\0b"))).is_err());
}

#[test]
fn destinations() {
    for (target, expected) in [
        (target(TargetAddress::Local("/".into())), "/"),
        (target(TargetAddress::Local("/mnt/a:b/".into())), "/mnt/a:b/"),
        (ssh(""), "deploy@edge1:./"),
        (ssh("~"), "deploy@edge1:./"),
        (ssh("~/www"), "deploy@edge1:./www/"),
        (ssh("~web/www"), "deploy@edge1:~web/www/"),
        (ssh("-delete"), "deploy@edge1:./-delete/"),
        (ssh("a:b"), "deploy@edge1:./a:b/"),
        (ssh("/"), "deploy@edge1:/"),
        (ssh("/a b$(id)"), "deploy@edge1:/a b$(id)/"),
        (daemon("::1", ""), "rsync://web@[::1]/www/"),
        (daemon("backup", "/a/b/"), "rsync://web@backup/www/a/b/"),
    ] {
        assert_eq!(destination(&target).unwrap(), OsString::from(expected));
    }
}

#[test]
fn what_the_other_side_would_expand_is_refused() {
    for path in ["/srv/*", "a?b", "[a]", "a\nb", "a\\b"] {
        assert!(destination(&ssh(path)).unwrap_err().contains("would expand"), "{path}");
        assert!(destination(&daemon("backup", path)).is_err(), "{path}");
    }
    for host in ["", "-oProxyCommand=x", "a/b", "a@b"] {
        assert!(destination(&daemon(host, "")).unwrap_err().contains("correct the address"), "{host}");
    }
}

#[test]
fn a_comparison_is_a_dry_run() {
    let target = daemon("backup", "");
    let filter = Filter::none();
    let route = Route { source: Path::new("/srv/www"), filter: &filter, cross_mounts: true, keep: false, target: &target };
    let told = comparison(NOW, &route, Work::Trees(Compare::Checksum), true, "x%i %n").unwrap();
    let mut expected = words(
        "-a -r --checksum --delete --delete-missing-args --force --dry-run --itemize-changes --out-format=x%i_%n --modify-window=-1 --stats \
         --no-h --timeout=60 --contimeout=10 --from0 --files-from=- /srv/www/ rsync://web@backup/www/",
    );
    expected[8] = "--out-format=x%i %n".into();
    assert_eq!(told, expected.into_iter().map(OsString::from).collect::<Vec<_>>());
}

#[test]
fn commands_for_people_can_be_pasted() {
    let arguments = ["-a".into(), "--filter=- *".into(), "it's".into()];
    assert_eq!(for_people(Path::new("rsync"), &arguments), r"rsync -a '--filter=- *' 'it'\''s'");
}

#[test]
fn a_fetch_goes_the_other_way_and_takes_only_options_that_lead_there() {
    let fetched = |target: &TargetConfig| -> Vec<String> {
        let filter = Filter::new(&["*.tmp".into()]).unwrap();
        let route = Route { source: Path::new("/srv/www"), filter: &filter, cross_mounts: false, keep: false, target };
        let arguments = fetching(NOW, &route, ".file", 4096, Path::new("/var/lib/x")).unwrap();
        arguments.into_iter().map(|argument| argument.into_string().unwrap()).collect()
    };
    let mut backup = daemon("backup", "sub");
    backup.password_file = Some("/etc/password".into());
    backup.options = ["--acls", "--chown=www:www", "--address=10.0.0.1", "-T/var/tmp", "-4", "--fake-super"].map(str::to_owned).into();
    assert_eq!(
        fetched(&backup),
        words(
            "--ignore-times --max-size=4096 --one-file-system --modify-window=-1 --stats --no-h --timeout=60 --contimeout=10 \
             --password-file=/etc/password --address=10.0.0.1 -4 rsync://web@backup/www/sub/.file /var/lib/x/"
        )
    );
    let mut edge = ssh("/srv/copy");
    edge.options = vec!["--rsync-path=sudo rsync".into(), "--delay-updates".into()];
    let arguments = fetched(&edge);
    let end = ["--rsync-path=sudo rsync", "deploy@edge1:/srv/copy/.file", "/var/lib/x/"];
    assert_eq!(arguments[arguments.len() - 3..], end);
    assert!(arguments.contains(&"-e".to_owned()), "{arguments:?}");
}

#[test]
fn nothing_is_deleted_where_it_is_to_be_kept() {
    let (local, filter) = (target(TargetAddress::Local("/mnt/mirror".into())), Filter::none());
    let route = Route { source: Path::new("/srv/www"), filter: &filter, cross_mounts: false, keep: true, target: &local };
    for work in [Work::Entries(Compare::Changed), Work::Levels, Work::Trees(Compare::Quick)] {
        for deletions in [Deletions::Allowed, Deletions::Counted, Deletions::Never] {
            let run = Run { work, deletions, missing: Missing::Delete, list: Vec::new(), progress: None };
            let told = arguments(NOW, &route, &run).unwrap();
            assert!(told.iter().any(|word| word == "--ignore-missing-args"), "{told:?}");
            assert!(!told.iter().any(|word| word.to_string_lossy().contains("delete") || word == "--force"), "{told:?}");
        }
        let compared = comparison(NOW, &route, work, false, "%n").unwrap();
        assert!(!compared.iter().any(|word| word.to_string_lossy().contains("delete")), "{compared:?}");
    }
}
