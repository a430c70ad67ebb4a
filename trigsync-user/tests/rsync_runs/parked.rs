//! An rsync that waits for its list: when it is ready, what it does then, and what it notices of the world meanwhile.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use trigsync::{
    config::{TargetAddress, TargetConfig},
    rsync::{Condition, Parked, Verdict},
};

use super::lab::{Lab, Server, listed, plant, target};

async fn until(parked: &mut Parked, source: &Path, condition: Condition) {
    let source = File::open(source).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = parked.condition(&source);
        if found == condition {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?}, not {condition:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn ready(lab: &Lab, to: &TargetConfig) -> Parked {
    let mut parked = lab.rsync.park(&lab.route(to)).unwrap();
    until(&mut parked, &lab.source, Condition::Ready).await;
    // And stays so, whatever the other side says first.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(parked.condition(File::open(&lab.source).unwrap()), Condition::Ready);
    parked
}

/// Sends what was written, and deletes what went, after it was parked.
async fn sends(lab: &Lab, to: &TargetConfig, at: &Path) {
    plant(at, &["gone/1", "kept"]);
    let parked = ready(lab, to).await;
    lab.write(&["new", "d/#new\n"]);
    let answer = parked.run(&lab.route(to), listed(&["d", "d/#new\n", "gone", "new"]), &CancellationToken::new()).await;
    assert_eq!((&answer.verdict, answer.stats.transferred, answer.stats.deleted), (&Verdict::Done, 2, 2), "{answer:?}");
    assert!(at.join("d/#new\n").exists() && at.join("kept").exists() && !at.join("gone").exists());
}

#[tokio::test]
async fn it_sends_what_is_there_when_it_gets_its_list() {
    let Some(mut lab) = Lab::new() else { return };
    sends(&lab, &lab.local("local"), &lab.path("local")).await;
    let server = Server::rsyncd(&lab, &[("module", "")]);
    sends(&lab, &server.module("module", ""), &lab.path("module")).await;
    let Some(server) = Server::sshd(&mut lab) else { return };
    fs::create_dir(lab.path("ssh")).unwrap();
    let to = Server::ssh(server.port, &lab, "user", lab.path("ssh").to_str().unwrap());
    sends(&lab, &to, &lab.path("ssh")).await;
}

#[tokio::test]
async fn one_that_fails_is_answered_like_any_other() {
    let Some(lab) = Lab::new() else { return };
    let server = Server::rsyncd(&lab, &[("m", "")]);
    let to = server.module("m", "");
    let parked = ready(&lab, &to).await;
    let answer = parked.run(&lab.route(&to), listed(&["no/such"]), &CancellationToken::new()).await;
    assert!(matches!(answer.verdict, Verdict::Vanished(_)), "{answer:?}");
    let stop = CancellationToken::new();
    stop.cancel();
    let answer = ready(&lab, &to).await.run(&lab.route(&to), listed(&["a"]), &stop).await;
    assert_eq!(answer.verdict, Verdict::Stopped);
}

#[tokio::test]
async fn it_waits_for_longer_than_the_timeout_and_ends_without_an_error() {
    let Some(lab) = Lab::new() else { return };
    lab.write(&["a"]);
    let server = Server::rsyncd(&lab, &[("m", &format!("log file = {}", lab.path("log").display()))]);
    let mut to = server.module("m", "");
    to.timeout = Duration::from_secs(2);
    let mut parked = ready(&lab, &to).await;
    let ended = ready(&lab, &to).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    until(&mut parked, &lab.source, Condition::Ready).await;
    assert!(ended.end(&lab.route(&to)).await.is_none(), "it was ended by us");
    assert_eq!(parked.run(&lab.route(&to), listed(&["a"]), &CancellationToken::new()).await.verdict, Verdict::Done);
    let log = fs::read_to_string(lab.path("log")).unwrap();
    assert!(log.contains("receiving file list") && !log.contains("error"), "{log}");
    assert_eq!(fs::read(lab.path("m/a")).unwrap(), b"a");
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_noticed() {
    let Some(lab) = Lab::new() else { return };
    let server = Server::rsyncd(&lab, &[("m", "timeout = 1")]);
    let to = server.module("m", "");
    let mut parked = ready(&lab, &to).await;
    until(&mut parked, &lab.source, Condition::HungUp).await;
    assert!(parked.end(&lab.route(&to)).await.is_none());
}

#[tokio::test]
async fn what_this_process_was_started_with_is_nobodys_connection() {
    let Some(lab) = Lab::new() else { return };
    // As a jobserver's, or a service manager's that has gone: every child inherits it, and nobody is at its other end.
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    drop(ready(&lab, &lab.local("dst")).await);
    drop(writer);
}

#[tokio::test]
async fn one_that_is_refused_says_so() {
    let Some(lab) = Lab::new() else { return };
    let server = Server::rsyncd(&lab, &[("m", "max connections = 1")]);
    let to = server.module("m", "");
    let first = ready(&lab, &to).await;
    let mut second = lab.rsync.park(&lab.route(&to)).unwrap();
    until(&mut second, &lab.source, Condition::Ended).await;
    let answer = second.end(&lab.route(&to)).await.expect("it ended by itself");
    assert!(matches!(answer.verdict, Verdict::Full { limit: Some(1), .. }), "{answer:?}");
    drop(first);
}

#[tokio::test]
async fn directories_that_were_replaced_are_not_mistaken() {
    let Some(lab) = Lab::new() else { return };
    let to = lab.local("dst");
    let (mut stale, mut elsewhere) = (ready(&lab, &to).await, ready(&lab, &to).await);
    fs::rename(lab.path("dst"), lab.path("old")).unwrap();
    until(&mut stale, &lab.source, Condition::Elsewhere).await;
    fs::create_dir(lab.path("dst")).unwrap();
    until(&mut stale, &lab.source, Condition::Elsewhere).await;
    fs::remove_dir(lab.path("dst")).unwrap();
    fs::rename(lab.path("old"), lab.path("dst")).unwrap();
    until(&mut elsewhere, &lab.source, Condition::Ready).await;
    fs::rename(&lab.source, lab.path("old")).unwrap();
    fs::create_dir(&lab.source).unwrap();
    until(&mut elsewhere, &lab.source, Condition::Elsewhere).await;
    // A target that is not there yet is made by an rsync that has something to send.
    assert!(lab.rsync.park(&lab.route(&target(TargetAddress::Local(lab.path("none"))))).unwrap_err().contains("not there"));
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_given_up_and_one_that_is_at_work_is_waited_for() {
    let Some(lab) = Lab::new() else { return };
    lab.write(&["a"]);
    let server = Server::rsyncd(&lab, &[("m", "")]);
    let mut to = server.module("m", "");
    to.timeout = Duration::from_secs(2);
    let stop = CancellationToken::new();

    let parked = ready(&lab, &to).await;
    let frozen = server.freeze(true);
    let answer = tokio::time::timeout(Duration::from_secs(60), parked.run(&lab.route(&to), listed(&["a"]), &stop)).await.expect("an end");
    assert!(matches!(&answer.verdict, Verdict::Retry(reason) if reason.contains("silent")), "{answer:?}");
    assert!(answer.interrupted, "its server may still be there");
    drop(frozen);

    let parked = ready(&lab, &to).await;
    // Like one that reads a large file: it says nothing, and whoever asks gets an answer.
    let frozen = server.freeze(false);
    let route = lab.route(&to);
    let mut running = std::pin::pin!(parked.run(&route, listed(&["a"]), &stop));
    let longer = 4 * to.timeout;
    assert!(tokio::time::timeout(longer, &mut running).await.is_err(), "it was not waited for");
    drop(frozen);
    assert_eq!(running.await.verdict, Verdict::Done);
    assert_eq!(fs::read(lab.path("m/a")).unwrap(), b"a");
}
