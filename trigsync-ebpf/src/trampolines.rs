//! The programs of the fexit tier: after each function, with its arguments still at hand.

#![expect(non_snake_case, reason = "the daemon finds a program by the name of its function")]

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use trigsync_common::ops;

use crate::{
    context::{argument, is_length, is_no_error, is_zero},
    files, names,
    names::Rename,
    read::{Reader as _, Typed},
    scratch::Slot,
    settings,
};

/// A name was made or removed, where the function returned 0.
macro_rules! name {
    ($program:ident, $slot:ident, $dentry:ident, $arguments:ident, $ops:expr) => {
        #[fexit]
        fn $program(context: FExitContext) -> i32 {
            let context = context.as_ptr();
            if is_zero(argument(context, settings::$arguments())) {
                names::named::<Typed>(context, argument(context, settings::$dentry()), Slot::$slot, $ops);
            }
            0
        }
    };
}

name!(fexit_vfs_create, Create, create_dentry, create_arguments, ops::CREATE);
name!(fexit_vfs_mknod, Mknod, mknod_dentry, mknod_arguments, ops::CREATE);
name!(fexit_vfs_symlink, Symlink, symlink_dentry, symlink_arguments, ops::CREATE);
name!(fexit_vfs_link, Link, link_dentry, link_arguments, ops::CREATE);
name!(fexit_vfs_unlink, Unlink, unlink_dentry, unlink_arguments, ops::DELETE);
name!(fexit_vfs_rmdir, Rmdir, rmdir_dentry, rmdir_arguments, ops::DELETE | ops::DIRECTORY | ops::TREE);

#[fexit]
fn fexit_vfs_mkdir(context: FExitContext) -> i32 {
    let context = context.as_ptr();
    let returned = argument(context, settings::mkdir_arguments());
    let ops = ops::CREATE | ops::DIRECTORY;
    if settings::mkdir_returns_dentry() == 1 {
        // The one that was handed in may be gone; this one has its name.
        if !is_error(returned) {
            names::named::<Typed>(context, returned, Slot::Mkdir, ops);
        }
    } else if is_zero(returned) {
        names::named::<Typed>(context, argument(context, settings::mkdir_dentry()), Slot::Mkdir, ops);
    }
    0
}

/// Whether a pointer is an error number or nothing.
#[inline(always)]
fn is_error(pointer: u64) -> bool {
    pointer == 0 || pointer >= 4096_u64.wrapping_neg()
}

#[inline(always)]
fn rename(context: *mut c_void) -> Rename {
    if settings::rename_arguments() == 1 {
        let data = argument(context, 0);
        Rename { old: Typed::u64(data + settings::rename_old()), new: Typed::u64(data + settings::rename_new()) }
    } else {
        Rename { old: argument(context, 1), new: argument(context, 3) }
    }
}

#[fentry]
fn fentry_vfs_rename(context: FEntryContext) -> i32 {
    names::about_to_rename::<Typed>(rename(context.as_ptr()));
    0
}

#[fexit]
fn fexit_vfs_rename(context: FExitContext) -> i32 {
    let context = context.as_ptr();
    names::renamed::<Typed>(context, rename(context).old, is_zero(argument(context, settings::rename_arguments())));
    0
}

/// Attributes of a name were changed, where the function returned 0.
macro_rules! attribute {
    ($program:ident, $slot:ident, $dentry:ident, $arguments:ident) => {
        #[fexit]
        fn $program(context: FExitContext) -> i32 {
            let context = context.as_ptr();
            if is_zero(argument(context, settings::$arguments())) {
                names::attributes::<Typed>(context, argument(context, settings::$dentry()), Slot::$slot, ops::ATTRIB);
            }
            0
        }
    };
}

attribute!(fexit___vfs_setxattr_noperm, SetXattr, setxattr_dentry, setxattr_arguments);
attribute!(fexit___vfs_removexattr, RemoveXattr, removexattr_dentry, removexattr_arguments);
attribute!(fexit_set_posix_acl, Acl, acl_dentry, acl_arguments);
attribute!(fexit_vfs_fileattr_set, Flags, flags_dentry, flags_arguments);

#[fexit]
fn fexit_notify_change(context: FExitContext) -> i32 {
    let context = context.as_ptr();
    if is_zero(argument(context, settings::change_arguments())) {
        let dentry = settings::change_dentry();
        let ops = names::attribute_ops::<Typed>(argument(context, dentry + 1));
        if ops != 0 {
            names::attributes::<Typed>(context, argument(context, dentry), Slot::Change, ops);
        }
    }
    0
}

/// A file was written to: which argument it is, how many there are, and what the return value must say.
macro_rules! write {
    ($program:ident, $slot:ident, $file:literal, $arguments:literal, $worked:ident) => {
        #[fexit]
        fn $program(context: FExitContext) -> i32 {
            let context = context.as_ptr();
            if $worked(argument(context, $arguments)) {
                files::written::<Typed>(context, argument(context, $file), Slot::$slot);
            }
            0
        }
    };
}

write!(fexit_vfs_write, Write, 0, 4, is_length);
write!(fexit_vfs_writev, Writev, 0, 5, is_length);
write!(fexit_vfs_iter_write, IterWrite, 0, 4, is_length);
write!(fexit_vfs_iocb_iter_write, IocbWrite, 0, 3, is_length);
write!(fexit___kernel_write, KernelWrite, 0, 4, is_length);
write!(fexit_iter_file_splice_write, Splice, 1, 5, is_length);
write!(fexit_vfs_copy_file_range, CopyRange, 2, 6, is_length);
write!(fexit_vfs_clone_file_range, CloneRange, 2, 6, is_no_error);
write!(fexit_vfs_fallocate, Allocate, 0, 4, is_zero);

/// Whatever it returns: what it left to others, they complete or try again.
#[fexit]
fn fexit_io_write(context: FExitContext) -> i32 {
    let context = context.as_ptr();
    let file = Typed::u64(argument(context, 0) + settings::request_file());
    if files::is_writable::<Typed>(file) {
        files::written::<Typed>(context, file, Slot::RingWrite);
    }
    0
}

/// A request of the kernel's own queues is complete.
macro_rules! complete {
    ($program:ident, $slot:ident) => {
        #[fentry]
        fn $program(context: FEntryContext) -> i32 {
            let context = context.as_ptr();
            let kiocb = argument(context, 0);
            if files::is_write::<Typed>(kiocb) {
                files::written::<Typed>(context, Typed::u64(kiocb + settings::kiocb_file()), Slot::$slot);
            }
            0
        }
    };
}

// Before they run: afterwards the request, and the file with it, may be gone. The data is in place by then.
complete!(fentry_io_complete_rw, RingComplete);
complete!(fentry_aio_complete_rw, AioComplete);

// Before it runs or after, the store itself comes later.
#[fentry]
fn fentry_file_update_time(context: FEntryContext) -> i32 {
    let context = context.as_ptr();
    files::updated_time::<Typed>(context, argument(context, 0));
    0
}

#[fentry]
fn fentry_security_file_open(context: FEntryContext) -> i32 {
    let context = context.as_ptr();
    files::opened::<Typed>(context, argument(context, 0));
    0
}

#[fentry]
fn fentry_security_inode_create(context: FEntryContext) -> i32 {
    files::about_to_create::<Typed>(argument(context.as_ptr(), 1));
    0
}

#[fentry]
fn fentry___fput(context: FEntryContext) -> i32 {
    let context = context.as_ptr();
    files::closed::<Typed>(context, argument(context, 0));
    0
}

// `vfs_rmdir` once more, for kernels whose compiler has put it into its caller.

#[fentry]
fn fentry_shrink_dcache_parent(context: FEntryContext) -> i32 {
    names::emptied::<Typed>(argument(context.as_ptr(), 0));
    0
}

#[fexit]
fn fexit_d_delete(context: FExitContext) -> i32 {
    let context = context.as_ptr();
    let dentry = argument(context, 0);
    if names::is_removing(dentry) {
        names::removed::<Typed>(context, dentry);
    }
    0
}
