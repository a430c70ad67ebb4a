//! Over a real sshd on loopback.

use std::{fs, os::unix::fs::PermissionsExt};

use trigsync::rsync::{Extent, Verdict};

use super::{
    Held,
    lab::{Lab, Server, plant},
};

#[tokio::test]
async fn over_ssh() {
    let Some(mut lab) = Lab::new() else { return };
    let Some(server) = Server::sshd(&mut lab) else { return };
    lab.write(&["a", "#d/f\n"]);
    for (key, name) in [("user", "plain"), ("key with 'quotes'", "sp ace:$(id)`x`;#")] {
        plant(lab.directory.path(), &[&format!("{name}/gone/1")]);
        let to = Server::ssh(server.port, &lab, key, lab.path(name).to_str().unwrap());
        assert_eq!(lab.entries(&to, &["a", "#d/f\n", "gone"]).await.verdict, Verdict::Done, "{name}");
        assert!(lab.path(name).join("#d/f\n").exists() && !lab.path(name).join("gone").exists());
        let drift = lab.rsync.compare(&lab.route(&to), true, Extent::Whole, &Default::default()).await.unwrap().drift;
        assert!(drift.iter().all(|drift| drift.path.is_root()), "{drift:?}");
        let checks = lab.rsync.check_target(&lab.route(&to)).await;
        assert!(checks.iter().all(|check| check.result.is_ok()), "{checks:?}");
        // A receiver older than 3.2.4 gets its paths past the shell.
        let mut old = to.clone();
        old.options = vec!["--protect-args".into()];
        assert_eq!(lab.entries(&old, &["a"]).await.verdict, Verdict::Done, "{name}");
    }
}

#[tokio::test]
async fn what_the_operator_has_to_mend_is_held_with_its_remedy() {
    let Some(mut lab) = Lab::new() else { return };
    let Some(server) = Server::sshd(&mut lab) else { return };
    lab.write(&["a"]);
    let path = lab.path("dst");
    let (port, server) = (server.port, server);
    let to = |key: &str| Server::ssh(port, &lab, key, path.to_str().unwrap());
    assert!(lab.entries(&to("stranger"), &["a"]).await.held().contains("authorized_keys"));
    // ssh reads the private key, and looks at its mode, only after the server took the public one.
    fs::set_permissions(lab.path("user"), fs::Permissions::from_mode(0o644)).unwrap();
    let reason = lab.entries(&to("user"), &["a"]).await.held();
    assert!(reason.contains("chmod 600"), "{reason}");
    fs::set_permissions(lab.path("user"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut without = to("user");
    without.options = vec!["--rsync-path=no-such-rsync".into()];
    assert!(lab.entries(&without, &["a"]).await.held().contains("rsync is not installed on 127.0.0.1"));
    without.options = vec!["--rsync-path=echo hello; rsync".into()];
    assert!(lab.entries(&without, &["a"]).await.held().contains("silence it"));
    let deep = Server::ssh(server.port, &lab, "user", lab.path("no/such").to_str().unwrap());
    assert!(lab.entries(&deep, &["a"]).await.held().contains("create the directory"));
    fs::write(lab.path("known"), "").unwrap();
    assert!(lab.entries(&to("user"), &["a"]).await.held().contains("known_hosts"));
    // A host that is not there may come back.
    let gone = to("user");
    drop(server);
    let answer = lab.entries(&gone, &["a"]).await;
    assert!(matches!(&answer.verdict, Verdict::Retry(reason) if reason.contains("Connection refused")), "{answer:?}");
}
