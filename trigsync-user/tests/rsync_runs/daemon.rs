//! Against a real rsync daemon: the rows of its own errors.

use std::{fs, os::unix::fs::PermissionsExt};

use trigsync::rsync::{Compare, Deletions, Verdict, Work};

use super::{
    Asked, Held,
    lab::{Lab, Server, plant, rel, target},
};

fn secret(lab: &Lab, name: &str, text: &str, mode: u32) -> std::path::PathBuf {
    fs::write(lab.path(name), text).unwrap();
    fs::set_permissions(lab.path(name), fs::Permissions::from_mode(mode)).unwrap();
    lab.path(name)
}

#[tokio::test]
async fn a_module_is_kept_equal() {
    let Some(lab) = Lab::new() else { return };
    let server = Server::rsyncd(&lab, &[("m", "")]);
    lab.write(&["a", "d/f"]);
    plant(&lab.path("m"), &["gone/1", "sub/"]);
    assert_eq!(lab.entries(&server.module("m", ""), &["a", "d", "d/f", "gone"]).await.verdict, Verdict::Done);
    assert!(lab.path("m/d/f").exists() && !lab.path("m/gone").exists());
    assert_eq!(lab.trees(&server.module("m", "sub"), &[""]).await.verdict, Verdict::Done);
    assert!(lab.path("m/sub/d/f").exists());
    assert!(lab.entries(&server.module("m", "no/such"), &["a"]).await.held().contains("create the directory"));
    assert!(lab.entries(&server.module("m", "s*b"), &["a"]).await.held().contains("would expand"));
}

#[tokio::test]
async fn what_the_operator_has_to_mend_is_held_with_its_remedy() {
    let Some(lab) = Lab::new() else { return };
    let sec = secret(&lab, "sec", "u:secret\n", 0o600);
    let auth = format!("auth users = u\nsecrets file = {}", sec.display());
    let server = Server::rsyncd(
        &lab,
        &[
            ("ro", "read only = yes"),
            ("deny", "hosts deny = *"),
            ("refuse", "refuse options = delete"),
            ("baduid", "uid = nosuchuser"),
            ("auth", &auth),
            ("nopath", ""),
            ("off", "max connections = -1"),
        ],
    );
    fs::remove_dir(lab.path("nopath")).unwrap();
    lab.write(&["a"]);
    for (module, remedy) in [
        ("ro", "read only = no"),
        ("deny", "hosts allow"),
        ("refuse", "refuse options"),
        ("baduid", "correct the module's `uid`"),
        ("auth", "password_file"),
        ("nopath", "create the module's `path`"),
        ("off", "switched off"),
        ("unknown", "check the module's name"),
    ] {
        let reason = lab.entries(&server.module(module, ""), &["a"]).await.held();
        assert!(reason.contains(remedy) && !reason.contains('\n'), "{module}: {reason}");
    }
    let mut to = server.module_for(Some("u"), "auth", "");
    for (text, mode, remedy) in [("wrong\n", 0o600, "auth failed"), ("secret\n", 0o644, "chmod 600")] {
        to.password_file = Some(secret(&lab, "password", text, mode));
        assert!(lab.entries(&to, &["a"]).await.held().contains(remedy));
    }
    to.password_file = Some(lab.path("none"));
    assert!(lab.entries(&to, &["a"]).await.held().contains("correct `password_file`"));
    to.password_file = Some(secret(&lab, "password", "secret\n", 0o600));
    assert_eq!(lab.entries(&to, &["a"]).await.verdict, Verdict::Done);
    // Without deletions such a daemon takes what it gets.
    let answer = lab.run(&server.module("refuse", ""), Work::Trees(Compare::Quick), Deletions::Never, b"/.\0".to_vec()).await;
    assert_eq!(answer.verdict, Verdict::Done);
}

#[tokio::test]
async fn a_receiver_that_is_nobody_names_what_it_could_not_do() {
    let Some(lab) = Lab::new() else { return };
    let server = Server::rsyncd(&lab, &[("nob", "uid = nobody\ngid = nogroup")]);
    lab.write(&["a", "d/f"]);
    plant(&lab.path("nob"), &["gone", "d/"]);
    for directory in ["src", "src/d"] {
        fs::File::open(lab.path(directory)).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    let answer = lab.entries(&server.module("nob", ""), &["a", "d/f", "gone"]).await;
    for path in ["a", "d", "d/f", "gone"] {
        assert!(answer.verdict.paths_of_partial().contains(&rel(path)), "{path} in {answer:?}");
    }
    let answer = lab.run(&server.module("nob", ""), Work::RootAttributes, Deletions::Allowed, Vec::new()).await;
    assert_eq!(answer.verdict.paths_of_partial(), [rel("")]);
    let to = server.module("nob", "");
    let checks = lab.rsync.check_target(&lab.route(&to)).await;
    assert!(checks.last().unwrap().result.as_ref().is_err_and(|text| text.contains("uid = root")), "{checks:?}");
    fs::set_permissions(lab.path("nob"), fs::Permissions::from_mode(0o777)).unwrap();
    let checks = lab.rsync.check_target(&lab.route(&to)).await;
    let owners = checks.iter().find(|check| check.name == "keeps owners").unwrap();
    assert!(owners.result.as_ref().is_err_and(|text| text.contains("gid = root")), "{checks:?}");
    assert!(checks.iter().find(|check| check.name == "may delete").unwrap().result.is_ok(), "{checks:?}");
}

#[tokio::test]
async fn a_daemon_without_a_free_connection_is_full() {
    let Some(lab) = Lab::new() else { return };
    let server = Server::rsyncd(&lab, &[("one", "max connections = 1")]);
    lab.write(&["big"]);
    fs::write(lab.source.join("big"), vec![b'x'; 4 << 20]).unwrap();
    let mut slow = server.module("one", "");
    slow.bandwidth_limit = Some("1m".into());
    let quick = server.module("one", "");
    let (first, second) = tokio::join!(lab.entries(&slow, &["big"]), async {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        lab.entries(&quick, &["big"]).await
    });
    assert_eq!(first.verdict, Verdict::Done);
    assert!(matches!(&second.verdict, Verdict::Full { reason, limit: Some(1) } if reason.contains("max connections")), "{second:?}");
}

#[tokio::test]
async fn the_network_is_tried_again() {
    let Some(lab) = Lab::new() else { return };
    lab.write(&["a"]);
    let nobody = |host: &str, port| {
        target(trigsync::config::TargetAddress::Daemon {
            user: None,
            host: host.into(),
            port: Some(port),
            module: "m".into(),
            path: String::new(),
        })
    };
    let closed = lab.entries(&nobody("127.0.0.1", super::lab::free_port()), &["a"]).await;
    assert!(matches!(&closed.verdict, Verdict::Retry(reason) if reason.contains("Connection refused")), "{closed:?}");
    // A peer that accepts and says nothing.
    let mute = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut to = nobody("127.0.0.1", mute.local_addr().unwrap().port());
    to.timeout = std::time::Duration::from_secs(1);
    let silent = lab.entries(&to, &["a"]).await;
    assert!(matches!(&silent.verdict, Verdict::Retry(_)), "{silent:?}");
}
