//! Signatures of 4.18, for kernels of RHEL 8 whose type information records structs but no functions (8.2).
//!
//! Read in the sources of 8.2 and 8.10 and in the type information of 8.1; they did not change in between.

use super::types::{Returns, Signature};

/// What releases begin with that this table is right for.
const RELEASE: &str = "4.18.";

const ZERO: Returns = Returns::Number(4);
const LENGTH: Returns = Returns::Number(8);
const NOTHING: Returns = Returns::Other;

/// For each argument the struct that it points to, empty for everything else; then what is returned.
const SIGNATURES: [(&str, &[&str], Returns); 25] = [
    ("security_file_open", &["file"], ZERO),
    ("security_inode_create", &["inode", "dentry", ""], ZERO),
    ("vfs_create", &["inode", "dentry", "", ""], ZERO),
    ("vfs_mkdir", &["inode", "dentry", ""], ZERO),
    ("vfs_mknod", &["inode", "dentry", "", ""], ZERO),
    ("vfs_symlink", &["inode", "dentry", ""], ZERO),
    ("vfs_link", &["dentry", "inode", "dentry", ""], ZERO),
    ("vfs_unlink", &["inode", "dentry", ""], ZERO),
    ("vfs_rmdir", &["inode", "dentry"], ZERO),
    ("vfs_rename", &["inode", "dentry", "inode", "dentry", "", ""], ZERO),
    ("notify_change", &["dentry", "iattr", ""], ZERO),
    ("__vfs_setxattr_noperm", &["dentry", "", "", "", ""], ZERO),
    ("__vfs_removexattr", &["dentry", ""], ZERO),
    ("set_posix_acl", &["inode", "", "posix_acl"], ZERO),
    ("vfs_write", &["file", "", "", ""], LENGTH),
    ("vfs_writev", &["file", "iovec", "", "", ""], LENGTH),
    ("vfs_iter_write", &["file", "iov_iter", "", ""], LENGTH),
    ("__kernel_write", &["file", "", "", ""], LENGTH),
    ("iter_file_splice_write", &["pipe_inode_info", "file", "", "", ""], LENGTH),
    ("vfs_copy_file_range", &["file", "", "file", "", "", ""], LENGTH),
    ("vfs_clone_file_range", &["file", "", "file", "", "", ""], LENGTH),
    ("vfs_fallocate", &["file", "", "", ""], ZERO),
    ("aio_complete_rw", &["kiocb", "", ""], NOTHING),
    ("file_update_time", &["file"], ZERO),
    ("__fput", &["file"], NOTHING),
];

/// Whether the table is right for a kernel of this release.
pub(super) fn fits(release: &str) -> bool {
    release.starts_with(RELEASE)
}

/// What a function of 4.18 takes and returns; `None` where it is not one that programs are attached to.
pub(super) fn signature(function: &str) -> Option<Signature> {
    let (_, arguments, returns) = SIGNATURES.iter().find(|(name, ..)| *name == function)?;
    Some(Signature { arguments: arguments.iter().map(|&name| name.to_owned()).collect(), returns: *returns })
}
