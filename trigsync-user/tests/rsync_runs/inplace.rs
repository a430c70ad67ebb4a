//! Files that change in place: what differs travels, and the target's own file gets it.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
};

use trigsync::rsync::{Compare, Deletions, Verdict, Work};

use super::lab::{Lab, Server, listed};

const SIZE: usize = 4 << 20;

#[tokio::test]
async fn what_differs_is_written_into_the_targets_own_file() {
    let Some(lab) = Lab::new() else { return };
    let server = Server::rsyncd(&lab, &[("m", "")]);
    let to = server.module("m", "");
    let noise: Vec<u8> = (0..SIZE as u64).map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    fs::write(lab.source.join("disk.img"), &noise).unwrap();
    let run = |work| lab.run(&to, work, Deletions::Allowed, listed(&["disk.img"]));
    assert_eq!(run(Work::InPlace(Compare::Changed)).await.verdict, Verdict::Done, "also where there is none yet");
    let inode = || fs::metadata(lab.path("m/disk.img")).unwrap().ino();
    let before = inode();
    for (how, at) in [(Compare::Changed, 1_000_000), (Compare::Checksum, 2_000_000)] {
        File::options().write(true).open(lab.source.join("disk.img")).unwrap().write_at(b"changed", at).unwrap();
        let answer = run(Work::InPlace(how)).await;
        assert_eq!((&answer.verdict, answer.stats.transferred), (&Verdict::Done, 1));
        assert!(answer.stats.bytes_sent < SIZE as u64 / 20, "{answer:?}");
        assert_eq!(inode(), before, "it is the same file");
        assert!(fs::read(lab.path("m/disk.img")).unwrap() == fs::read(lab.source.join("disk.img")).unwrap());
    }
    // It has shrunk.
    File::options().write(true).open(lab.source.join("disk.img")).unwrap().set_len(1000).unwrap();
    assert_eq!(run(Work::InPlace(Compare::Changed)).await.verdict, Verdict::Done);
    assert_eq!(fs::read(lab.path("m/disk.img")).unwrap(), noise[..1000]);
    fs::remove_file(lab.source.join("disk.img")).unwrap();
    assert_eq!(run(Work::InPlace(Compare::Changed)).await.verdict, Verdict::Done);
    assert!(!lab.path("m/disk.img").exists(), "what went meanwhile is deleted, as everywhere");
}
