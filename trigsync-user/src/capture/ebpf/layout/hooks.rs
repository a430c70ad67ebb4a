//! The kernel's functions that the programs are attached to: what each has to look like, and what is not seen without it.

use trigsync_common::settings::Settings;

use self::{
    Answer::{LengthAfter, Unread, ZeroAfter},
    Need::{Costs, Else, Required},
};

/// A setting, by where it is kept.
pub(super) type Setting = fn(&mut Settings) -> &mut u64;

/// One function of the kernel.
pub struct Hook {
    /// Its name.
    pub function: &'static str,
    /// What follows where it is missing.
    pub need: Need,
    pub(super) form: Form,
}

/// What follows where a function or a field is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Without it no tier that uses it works.
    Required,
    /// What is then not seen, as a sentence.
    Costs(&'static str),
    /// Nothing is lost; how it is done instead, as a sentence.
    Else(&'static str),
}

/// What a function has to look like.
pub(super) enum Form {
    /// So many of its arguments point to a `dentry`, and the last of these is what the programs ask for.
    Dentry { dentries: usize, followed_by: Option<&'static str>, position: Setting, arguments: Setting },
    /// One `renamedata`, or six arguments.
    Rename,
    /// What the programs read stands at the same place in every kernel: position and struct of each pointer, and the return value.
    Fixed { pointers: &'static [(usize, &'static str)], answer: Answer },
}

/// What the programs read of the value that a function of a fixed form returns.
pub(super) enum Answer {
    Unread,
    /// 0 where it worked; it stands after so many arguments.
    ZeroAfter(usize),
    /// A length; it stands after so many arguments.
    LengthAfter(usize),
}

/// Every function that a program is attached to.
pub static HOOKS: [Hook; 31] = [
    fixed("security_file_open", Required, &[(0, "file")], Unread),
    fixed(
        "security_inode_create",
        Costs("a file that open(2) makes is not seen until something is written to it"),
        &[(0, "inode"), (1, "dentry")],
        Unread,
    ),
    dentry(
        "vfs_create",
        Costs("a regular file that mknod(2), an overlay or the kernel's NFS server makes is not seen until something is written to it"),
        |settings| &mut settings.create_dentry,
        |settings| &mut settings.create_arguments,
    ),
    dentry("vfs_mkdir", Required, |settings| &mut settings.mkdir_dentry, |settings| &mut settings.mkdir_arguments),
    dentry("vfs_mknod", Required, |settings| &mut settings.mknod_dentry, |settings| &mut settings.mknod_arguments),
    dentry("vfs_symlink", Required, |settings| &mut settings.symlink_dentry, |settings| &mut settings.symlink_arguments),
    Hook {
        function: "vfs_link",
        need: Required,
        form: Form::Dentry {
            dentries: 2,
            followed_by: None,
            position: |settings| &mut settings.link_dentry,
            arguments: |settings| &mut settings.link_arguments,
        },
    },
    dentry("vfs_unlink", Required, |settings| &mut settings.unlink_dentry, |settings| &mut settings.unlink_arguments),
    dentry("vfs_rmdir", Required, |settings| &mut settings.rmdir_dentry, |settings| &mut settings.rmdir_arguments),
    // Some compilers put vfs_rmdir into its caller, where nothing can be attached to it: these two see the same.
    fixed("shrink_dcache_parent", Else("the removal of a directory is seen where vfs_rmdir is called"), &[(0, "dentry")], Unread),
    fixed("d_delete", Else("the removal of a directory is seen where vfs_rmdir is called"), &[(0, "dentry")], Unread),
    Hook { function: "vfs_rename", need: Required, form: Form::Rename },
    Hook {
        function: "notify_change",
        need: Required,
        form: Form::Dentry {
            dentries: 1,
            followed_by: Some("iattr"),
            position: |settings| &mut settings.change_dentry,
            arguments: |settings| &mut settings.change_arguments,
        },
    },
    dentry(
        "__vfs_setxattr_noperm",
        Costs("an extended attribute or access control list that is set is not seen"),
        |settings| &mut settings.setxattr_dentry,
        |settings| &mut settings.setxattr_arguments,
    ),
    dentry(
        "__vfs_removexattr",
        Costs("an extended attribute that is removed is not seen"),
        |settings| &mut settings.removexattr_dentry,
        |settings| &mut settings.removexattr_arguments,
    ),
    dentry(
        "set_posix_acl",
        // https://git.kernel.org/linus/138060ba92b3 (6.2) gave it the dentry; until then every change of a list was one of an attribute.
        Else("access control lists are extended attributes here and are seen as such"),
        |settings| &mut settings.acl_dentry,
        |settings| &mut settings.acl_arguments,
    ),
    dentry(
        "vfs_fileattr_set",
        Costs("inode flags (chattr) are not seen; rsync does not transfer them"),
        |settings| &mut settings.flags_dentry,
        |settings| &mut settings.flags_arguments,
    ),
    fixed("vfs_write", Required, &[(0, "file")], LengthAfter(4)),
    fixed("vfs_writev", Required, &[(0, "file")], LengthAfter(5)),
    fixed(
        "vfs_iter_write",
        Costs("what an overlay or a loop device writes is not seen until the file is closed"),
        &[(0, "file")],
        LengthAfter(4),
    ),
    fixed(
        "vfs_iocb_iter_write",
        Costs("what is written through an overlay by asynchronous I/O is not seen until the file is closed"),
        &[(0, "file")],
        LengthAfter(3),
    ),
    fixed(
        "__kernel_write",
        Costs("what the kernel itself writes (core dumps) is not seen until the file is closed"),
        &[(0, "file")],
        LengthAfter(4),
    ),
    fixed("iter_file_splice_write", Costs("sendfile and splice to a file are not seen until it is closed"), &[(1, "file")], LengthAfter(5)),
    fixed("vfs_copy_file_range", Costs("copy_file_range is not seen until the file is closed"), &[(2, "file")], LengthAfter(6)),
    fixed("vfs_clone_file_range", Costs("a reflink (FICLONE) is not seen until the file is closed"), &[(2, "file")], LengthAfter(6)),
    fixed("vfs_fallocate", Costs("fallocate is not seen until the file is closed"), &[(0, "file")], ZeroAfter(4)),
    fixed("io_write", Costs("a write through io_uring is not seen until the file is closed"), &[(0, "io_kiocb")], Unread),
    fixed(
        "io_complete_rw",
        Costs("a write through io_uring that ends later than its submission is not seen until the file is closed"),
        &[(0, "kiocb")],
        Unread,
    ),
    fixed("aio_complete_rw", Costs("a write by asynchronous I/O (libaio) is not seen until the file is closed"), &[(0, "kiocb")], Unread),
    fixed("file_update_time", Costs("a store through a shared mapping is not seen until the file is closed"), &[(0, "file")], Unread),
    fixed("__fput", Required, &[(0, "file")], Unread),
];

const fn dentry(function: &'static str, need: Need, position: Setting, arguments: Setting) -> Hook {
    Hook { function, need, form: Form::Dentry { dentries: 1, followed_by: None, position, arguments } }
}

const fn fixed(function: &'static str, need: Need, pointers: &'static [(usize, &'static str)], answer: Answer) -> Hook {
    Hook { function, need, form: Form::Fixed { pointers, answer } }
}
