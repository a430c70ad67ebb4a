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
    settings, skipped,
};

/// The two programs of a function: one that runs after it (`fexit`) or before (`fentry`), and one that stands in where the kernel skips that.
macro_rules! programs {
    ($kind:ident($type:ident), $first:ident, $second:ident, $program:ident, |$context:ident, $slot:pat_param| $body:block) => {
        #[$kind]
        fn $first($context: $type) -> i32 {
            skipped::runs(Slot::$program);
            let ($context, $slot) = ($context.as_ptr(), Slot::$program);
            $body;
            0
        }

        #[$kind]
        fn $second($context: $type) -> i32 {
            if skipped::was_skipped(Slot::$program) {
                let ($context, $slot) = ($context.as_ptr(), Slot::$program.second());
                $body;
            }
            0
        }
    };
}

macro_rules! after {
    ($first:ident, $second:ident, $program:ident, |$context:ident, $slot:pat_param| $body:block) => {
        programs!(fexit(FExitContext), $first, $second, $program, |$context, $slot| $body);
    };
}

macro_rules! before {
    ($first:ident, $second:ident, $program:ident, |$context:ident, $slot:pat_param| $body:block) => {
        programs!(fentry(FEntryContext), $first, $second, $program, |$context, $slot| $body);
    };
}

/// A name was made or removed, where the function returned 0.
macro_rules! name {
    ($first:ident, $second:ident, $slot:ident, $dentry:ident, $arguments:ident, $ops:expr) => {
        after!($first, $second, $slot, |context, slot| {
            if is_zero(argument(context, settings::$arguments())) {
                names::named::<Typed>(context, argument(context, settings::$dentry()), slot, $ops);
            }
        });
    };
}

name!(fexit_vfs_create, second_fexit_vfs_create, Create, create_dentry, create_arguments, ops::CREATE);
name!(fexit_vfs_mknod, second_fexit_vfs_mknod, Mknod, mknod_dentry, mknod_arguments, ops::CREATE);
name!(fexit_vfs_symlink, second_fexit_vfs_symlink, Symlink, symlink_dentry, symlink_arguments, ops::CREATE);
name!(fexit_vfs_link, second_fexit_vfs_link, Link, link_dentry, link_arguments, ops::CREATE);
name!(fexit_vfs_unlink, second_fexit_vfs_unlink, Unlink, unlink_dentry, unlink_arguments, ops::DELETE);
name!(fexit_vfs_rmdir, second_fexit_vfs_rmdir, Rmdir, rmdir_dentry, rmdir_arguments, ops::DELETE | ops::DIRECTORY | ops::TREE);

after!(fexit_vfs_mkdir, second_fexit_vfs_mkdir, Mkdir, |context, slot| {
    let returned = argument(context, settings::mkdir_arguments());
    let ops = ops::CREATE | ops::DIRECTORY;
    if settings::mkdir_returns_dentry() == 1 {
        // The one that was handed in may be gone; this one has its name.
        if !is_error(returned) {
            names::named::<Typed>(context, returned, slot, ops);
        }
    } else if is_zero(returned) {
        names::named::<Typed>(context, argument(context, settings::mkdir_dentry()), slot, ops);
    }
});

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

before!(fentry_vfs_rename, second_fentry_vfs_rename, RenameEntry, |context, slot| {
    names::about_to_rename::<Typed>(rename(context), slot);
});

after!(fexit_vfs_rename, second_fexit_vfs_rename, Rename, |context, slot| {
    let worked = is_zero(argument(context, settings::rename_arguments()));
    names::renamed::<Typed>(context, rename(context).old, slot, worked);
});

/// Attributes of a name were changed, where the function returned 0.
macro_rules! attribute {
    ($first:ident, $second:ident, $slot:ident, $dentry:ident, $arguments:ident) => {
        after!($first, $second, $slot, |context, slot| {
            if is_zero(argument(context, settings::$arguments())) {
                names::attributes::<Typed>(context, argument(context, settings::$dentry()), slot, ops::ATTRIB);
            }
        });
    };
}

attribute!(fexit___vfs_setxattr_noperm, second_fexit___vfs_setxattr_noperm, SetXattr, setxattr_dentry, setxattr_arguments);
attribute!(fexit___vfs_removexattr, second_fexit___vfs_removexattr, RemoveXattr, removexattr_dentry, removexattr_arguments);
attribute!(fexit_set_posix_acl, second_fexit_set_posix_acl, Acl, acl_dentry, acl_arguments);
attribute!(fexit_vfs_fileattr_set, second_fexit_vfs_fileattr_set, Flags, flags_dentry, flags_arguments);

after!(fexit_notify_change, second_fexit_notify_change, Change, |context, slot| {
    if is_zero(argument(context, settings::change_arguments())) {
        let dentry = settings::change_dentry();
        let ops = names::attribute_ops::<Typed>(argument(context, dentry + 1));
        if ops != 0 {
            names::attributes::<Typed>(context, argument(context, dentry), slot, ops);
        }
    }
});

/// A file was written to: which argument it is, how many there are, and what the return value must say.
macro_rules! write {
    ($first:ident, $second:ident, $slot:ident, $file:literal, $arguments:literal, $worked:ident) => {
        after!($first, $second, $slot, |context, slot| {
            if $worked(argument(context, $arguments)) {
                files::written::<Typed>(context, argument(context, $file), slot);
            }
        });
    };
}

write!(fexit_vfs_write, second_fexit_vfs_write, Write, 0, 4, is_length);
write!(fexit_vfs_writev, second_fexit_vfs_writev, Writev, 0, 5, is_length);
write!(fexit_vfs_iter_write, second_fexit_vfs_iter_write, IterWrite, 0, 4, is_length);
write!(fexit_vfs_iocb_iter_write, second_fexit_vfs_iocb_iter_write, IocbWrite, 0, 3, is_length);
write!(fexit___kernel_write, second_fexit___kernel_write, KernelWrite, 0, 4, is_length);
write!(fexit_iter_file_splice_write, second_fexit_iter_file_splice_write, Splice, 1, 5, is_length);
write!(fexit_vfs_copy_file_range, second_fexit_vfs_copy_file_range, CopyRange, 2, 6, is_length);
write!(fexit_vfs_clone_file_range, second_fexit_vfs_clone_file_range, CloneRange, 2, 6, is_no_error);
write!(fexit_vfs_fallocate, second_fexit_vfs_fallocate, Allocate, 0, 4, is_zero);

// Whatever it returns: what it left to others, they complete or try again.
after!(fexit_io_write, second_fexit_io_write, RingWrite, |context, slot| {
    let file = Typed::u64(argument(context, 0) + settings::request_file());
    if files::is_writable::<Typed>(file) {
        files::written::<Typed>(context, file, slot);
    }
});

/// A request of the kernel's own queues is complete.
macro_rules! complete {
    ($first:ident, $second:ident, $slot:ident) => {
        before!($first, $second, $slot, |context, slot| {
            let kiocb = argument(context, 0);
            if files::is_write::<Typed>(kiocb) {
                files::written::<Typed>(context, Typed::u64(kiocb + settings::kiocb_file()), slot);
            }
        });
    };
}

// Before they run: afterwards the request, and the file with it, may be gone. The data is in place by then.
complete!(fentry_io_complete_rw, second_fentry_io_complete_rw, RingComplete);
complete!(fentry_aio_complete_rw, second_fentry_aio_complete_rw, AioComplete);

// Before it runs or after, the store itself comes later.
before!(fentry_file_update_time, second_fentry_file_update_time, UpdateTime, |context, slot| {
    files::updated_time::<Typed>(context, argument(context, 0), slot);
});

before!(fentry_security_file_open, second_fentry_security_file_open, Open, |context, slot| {
    files::opened::<Typed>(context, argument(context, 0), slot);
});

before!(fentry_security_inode_create, second_fentry_security_inode_create, AboutToCreate, |context, _| {
    files::about_to_create::<Typed>(argument(context, 1));
});

before!(fentry___fput, second_fentry___fput, Close, |context, slot| {
    files::closed::<Typed>(context, argument(context, 0), slot);
});

// `vfs_rmdir` once more, for kernels whose compiler has put it into its caller.

before!(fentry_shrink_dcache_parent, second_fentry_shrink_dcache_parent, Emptied, |context, _| {
    names::emptied::<Typed>(argument(context, 0));
});

after!(fexit_d_delete, second_fexit_d_delete, Delete, |context, slot| {
    let dentry = argument(context, 0);
    if names::is_removing(dentry) {
        names::removed::<Typed>(context, dentry, slot);
    }
});
