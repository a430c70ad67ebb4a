//! The programs of the kprobe tier: what a function is called with is kept until it returns.

#![expect(non_snake_case, reason = "the daemon finds a program by the name of its function")]

use aya_ebpf::{
    bindings::pt_regs,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use trigsync_common::ops;

use crate::{
    context::{is_length, is_no_error, is_zero, register, returned, stack},
    files, flight, names,
    names::Rename,
    read::{Probed, Reader as _},
    scratch::Slot,
    settings,
    tell::control,
    walk,
};

/// A call that will change what is at this `dentry`, where anything on its file system is watched.
#[inline(always)]
fn enter_name(regs: *mut pt_regs, dentry: u64, slot: Slot, ops: u16) {
    let Some(control) = control() else { return };
    if walk::perhaps_watched(control, walk::device::<Probed>(dentry)) {
        flight::enter(stack(regs), slot, dentry, ops);
    }
}

/// A call that will write to this file, where anything on its file system is watched.
#[inline(always)]
fn enter_file(regs: *mut pt_regs, file: u64, slot: Slot) {
    let Some(control) = control() else { return };
    let inode = Probed::u64(file + settings::file_inode());
    let device = Probed::u32(Probed::u64(inode + settings::inode_sb()) + settings::sb_device());
    // As in `files::written`.
    let is_shown_elsewhere =
        || slot.is_of(Slot::Splice) && walk::perhaps_watched(control, walk::device::<Probed>(Probed::u64(file + settings::file_dentry())));
    if (walk::perhaps_watched(control, device) || is_shown_elsewhere()) && files::is_regular::<Probed>(inode) {
        flight::enter(stack(regs), slot, file, ops::WRITE);
    }
}

macro_rules! name {
    ($entry:ident, $return:ident, $slot:ident, $dentry:ident, $ops:expr) => {
        #[kprobe]
        fn $entry(context: ProbeContext) -> u32 {
            enter_name(context.regs, register(context.regs, settings::$dentry()), Slot::$slot, $ops);
            0
        }

        #[kretprobe]
        fn $return(context: RetProbeContext) -> u32 {
            if let Some(call) = flight::leave(stack(context.regs), Slot::$slot)
                && is_zero(returned(context.regs))
            {
                names::named::<Probed>(context.regs.cast(), call.subject, Slot::$slot, $ops);
            }
            0
        }
    };
}

name!(kprobe_vfs_create, kretprobe_vfs_create, Create, create_dentry, ops::CREATE);
name!(kprobe_vfs_mknod, kretprobe_vfs_mknod, Mknod, mknod_dentry, ops::CREATE);
name!(kprobe_vfs_symlink, kretprobe_vfs_symlink, Symlink, symlink_dentry, ops::CREATE);
name!(kprobe_vfs_link, kretprobe_vfs_link, Link, link_dentry, ops::CREATE);
name!(kprobe_vfs_unlink, kretprobe_vfs_unlink, Unlink, unlink_dentry, ops::DELETE);
name!(kprobe_vfs_rmdir, kretprobe_vfs_rmdir, Rmdir, rmdir_dentry, ops::DELETE | ops::DIRECTORY | ops::TREE);

#[kprobe]
fn kprobe_vfs_mkdir(context: ProbeContext) -> u32 {
    enter_name(context.regs, register(context.regs, settings::mkdir_dentry()), Slot::Mkdir, 0);
    0
}

#[kretprobe]
fn kretprobe_vfs_mkdir(context: RetProbeContext) -> u32 {
    let Some(call) = flight::leave(stack(context.regs), Slot::Mkdir) else { return 0 };
    let returned = returned(context.regs);
    let made = if settings::mkdir_returns_dentry() != 1 {
        if is_zero(returned) { call.subject } else { 0 }
    } else if returned >= 4096_u64.wrapping_neg() {
        0
    } else {
        returned
    };
    if made != 0 {
        names::named::<Probed>(context.regs.cast(), made, Slot::Mkdir, ops::CREATE | ops::DIRECTORY);
    }
    0
}

#[kprobe]
fn kprobe_vfs_rename(context: ProbeContext) -> u32 {
    let regs = context.regs;
    let rename = if settings::rename_arguments() == 1 {
        let data = register(regs, 0);
        Rename { old: Probed::u64(data + settings::rename_old()), new: Probed::u64(data + settings::rename_new()) }
    } else {
        Rename { old: register(regs, 1), new: register(regs, 3) }
    };
    enter_name(regs, rename.old, Slot::Rename, 0);
    names::about_to_rename::<Probed>(rename, Slot::RenameEntry);
    0
}

#[kretprobe]
fn kretprobe_vfs_rename(context: RetProbeContext) -> u32 {
    if let Some(call) = flight::leave(stack(context.regs), Slot::Rename) {
        names::renamed::<Probed>(context.regs.cast(), call.subject, Slot::Rename, is_zero(returned(context.regs)));
    }
    0
}

macro_rules! attribute {
    ($entry:ident, $return:ident, $slot:ident, $dentry:ident) => {
        #[kprobe]
        fn $entry(context: ProbeContext) -> u32 {
            enter_name(context.regs, register(context.regs, settings::$dentry()), Slot::$slot, ops::ATTRIB);
            0
        }

        leave_attribute!($return, $slot);
    };
}

macro_rules! leave_attribute {
    ($return:ident, $slot:ident) => {
        #[kretprobe]
        fn $return(context: RetProbeContext) -> u32 {
            if let Some(call) = flight::leave(stack(context.regs), Slot::$slot)
                && is_zero(returned(context.regs))
            {
                names::attributes::<Probed>(context.regs.cast(), call.subject, Slot::$slot, call.ops);
            }
            0
        }
    };
}

attribute!(kprobe___vfs_setxattr_noperm, kretprobe___vfs_setxattr_noperm, SetXattr, setxattr_dentry);
attribute!(kprobe___vfs_removexattr, kretprobe___vfs_removexattr, RemoveXattr, removexattr_dentry);
attribute!(kprobe_set_posix_acl, kretprobe_set_posix_acl, Acl, acl_dentry);
attribute!(kprobe_vfs_fileattr_set, kretprobe_vfs_fileattr_set, Flags, flags_dentry);
leave_attribute!(kretprobe_notify_change, Change);

#[kprobe]
fn kprobe_notify_change(context: ProbeContext) -> u32 {
    let dentry = settings::change_dentry();
    let ops = names::attribute_ops::<Probed>(register(context.regs, dentry + 1));
    if ops == 0 {
        return 0;
    }
    enter_name(context.regs, register(context.regs, dentry), Slot::Change, ops);
    0
}

macro_rules! write {
    ($entry:ident, $return:ident, $slot:ident, $file:literal, $worked:ident) => {
        #[kprobe]
        fn $entry(context: ProbeContext) -> u32 {
            enter_file(context.regs, register(context.regs, $file), Slot::$slot);
            0
        }

        #[kretprobe]
        fn $return(context: RetProbeContext) -> u32 {
            if let Some(call) = flight::leave(stack(context.regs), Slot::$slot)
                && $worked(returned(context.regs))
            {
                files::written::<Probed>(context.regs.cast(), call.subject, Slot::$slot);
            }
            0
        }
    };
}

write!(kprobe_vfs_write, kretprobe_vfs_write, Write, 0, is_length);
write!(kprobe_vfs_writev, kretprobe_vfs_writev, Writev, 0, is_length);
write!(kprobe_vfs_iter_write, kretprobe_vfs_iter_write, IterWrite, 0, is_length);
write!(kprobe_vfs_iocb_iter_write, kretprobe_vfs_iocb_iter_write, IocbWrite, 0, is_length);
write!(kprobe___kernel_write, kretprobe___kernel_write, KernelWrite, 0, is_length);
write!(kprobe_iter_file_splice_write, kretprobe_iter_file_splice_write, Splice, 1, is_length);
write!(kprobe_vfs_copy_file_range, kretprobe_vfs_copy_file_range, CopyRange, 2, is_length);
write!(kprobe_vfs_clone_file_range, kretprobe_vfs_clone_file_range, CloneRange, 2, is_no_error);
write!(kprobe_vfs_fallocate, kretprobe_vfs_fallocate, Allocate, 0, is_zero);

#[kprobe]
fn kprobe_io_write(context: ProbeContext) -> u32 {
    let file = Probed::u64(register(context.regs, 0) + settings::request_file());
    if files::is_writable::<Probed>(file) {
        enter_file(context.regs, file, Slot::RingWrite);
    }
    0
}

/// Whatever it returns: what it left to others, they complete or try again.
#[kretprobe]
fn kretprobe_io_write(context: RetProbeContext) -> u32 {
    if let Some(call) = flight::leave(stack(context.regs), Slot::RingWrite) {
        files::written::<Probed>(context.regs.cast(), call.subject, Slot::RingWrite);
    }
    0
}

macro_rules! complete {
    ($program:ident, $slot:ident) => {
        #[kprobe]
        fn $program(context: ProbeContext) -> u32 {
            let kiocb = register(context.regs, 0);
            if files::is_write::<Probed>(kiocb) {
                files::written::<Probed>(context.regs.cast(), Probed::u64(kiocb + settings::kiocb_file()), Slot::$slot);
            }
            0
        }
    };
}

complete!(kprobe_io_complete_rw, RingComplete);
complete!(kprobe_aio_complete_rw, AioComplete);

#[kprobe]
fn kprobe_file_update_time(context: ProbeContext) -> u32 {
    files::updated_time::<Probed>(context.regs.cast(), register(context.regs, 0), Slot::UpdateTime);
    0
}

#[kprobe]
fn kprobe_security_file_open(context: ProbeContext) -> u32 {
    files::opened::<Probed>(context.regs.cast(), register(context.regs, 0), Slot::Open);
    0
}

#[kprobe]
fn kprobe_security_inode_create(context: ProbeContext) -> u32 {
    files::about_to_create::<Probed>(register(context.regs, 1));
    0
}

#[kprobe]
fn kprobe___fput(context: ProbeContext) -> u32 {
    files::closed::<Probed>(context.regs.cast(), register(context.regs, 0), Slot::Close);
    0
}

// `vfs_rmdir` once more, for kernels whose compiler has put it into its caller.

#[kprobe]
fn kprobe_shrink_dcache_parent(context: ProbeContext) -> u32 {
    names::emptied::<Probed>(register(context.regs, 0));
    0
}

#[kprobe]
fn kprobe_d_delete(context: ProbeContext) -> u32 {
    let dentry = register(context.regs, 0);
    if names::is_removing(dentry) {
        enter_name(context.regs, dentry, Slot::Delete, 0);
    }
    0
}

#[kretprobe]
fn kretprobe_d_delete(context: RetProbeContext) -> u32 {
    if let Some(call) = flight::leave(stack(context.regs), Slot::Delete) {
        names::removed::<Probed>(context.regs.cast(), call.subject, Slot::Delete);
    }
    0
}
