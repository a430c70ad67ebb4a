//! The read-only settings of the programs: names of their globals, all 64 bits wide.
//!
//! The daemon finds the values in the running kernel and sets each before loading, so that the verifier sees constants and drops the arms
//! that this kernel does not need. [`Settings`] holds one value for each; the programs declare their globals from the same list.

/// The value of a setting for which this kernel has none.
pub const ABSENT: u64 = u64::MAX;

/// Hands the list of settings to another macro, as `/// text` `field` `= "NAME", NAME;` for each.
#[macro_export]
macro_rules! for_each_setting {
    ($callback:ident) => {
        $callback! {
            // Where the kernel keeps things: offsets in bytes, from the kernel's type information.
            /// `dentry.d_parent`.
            dentry_parent = "DENTRY_PARENT", DENTRY_PARENT;
            /// `dentry.d_name`, a `qstr`.
            dentry_name = "DENTRY_NAME", DENTRY_NAME;
            /// `dentry.d_inode`.
            dentry_inode = "DENTRY_INODE", DENTRY_INODE;
            /// `dentry.d_sb`.
            dentry_sb = "DENTRY_SB", DENTRY_SB;
            /// `dentry.d_hash.pprev`: null when no lookup finds it.
            dentry_hashed = "DENTRY_HASHED", DENTRY_HASHED;
            /// `dentry.d_u.d_alias`, its place in `inode.i_dentry`.
            dentry_alias = "DENTRY_ALIAS", DENTRY_ALIAS;
            /// `qstr.len`, 32 bits.
            qstr_length = "QSTR_LENGTH", QSTR_LENGTH;
            /// `qstr.name`.
            qstr_name = "QSTR_NAME", QSTR_NAME;
            /// `qstr.hash`, 32 bits.
            qstr_hash = "QSTR_HASH", QSTR_HASH;
            /// `file.f_path.dentry`.
            file_dentry = "FILE_DENTRY", FILE_DENTRY;
            /// `file.f_inode`.
            file_inode = "FILE_INODE", FILE_INODE;
            /// `file.f_mode`, 32 bits.
            file_mode = "FILE_MODE", FILE_MODE;
            /// `file.f_mapping`.
            file_mapping = "FILE_MAPPING", FILE_MAPPING;
            /// `address_space.i_mmap_writable`, 32 bits, signed.
            mapping_writable = "MAPPING_WRITABLE", MAPPING_WRITABLE;
            /// `inode.i_mode`, 16 bits.
            inode_mode = "INODE_MODE", INODE_MODE;
            /// `inode.i_ino`.
            inode_number = "INODE_NUMBER", INODE_NUMBER;
            /// `inode.i_sb`.
            inode_sb = "INODE_SB", INODE_SB;
            /// `inode.i_generation`, 32 bits.
            inode_generation = "INODE_GENERATION", INODE_GENERATION;
            /// `inode.i_dentry.first`.
            inode_aliases = "INODE_ALIASES", INODE_ALIASES;
            /// `super_block.s_dev`, 32 bits.
            sb_device = "SB_DEVICE", SB_DEVICE;
            /// `task_struct.group_leader`.
            task_leader = "TASK_LEADER", TASK_LEADER;
            /// `task_struct.real_parent`.
            task_parent = "TASK_PARENT", TASK_PARENT;
            /// `task_struct.tgid`, 32 bits.
            task_process = "TASK_PROCESS", TASK_PROCESS;
            /// `task_struct.start_time`.
            task_started = "TASK_STARTED", TASK_STARTED;
            /// `iattr.ia_valid`, 32 bits.
            iattr_valid = "IATTR_VALID", IATTR_VALID;
            /// `kiocb.ki_filp`.
            kiocb_file = "KIOCB_FILE", KIOCB_FILE;
            /// `kiocb.ki_flags`, 32 bits.
            kiocb_flags = "KIOCB_FLAGS", KIOCB_FLAGS;
            /// `io_kiocb.file`.
            request_file = "REQUEST_FILE", REQUEST_FILE;
            /// `renamedata.old_dentry`.
            rename_old = "RENAME_OLD", RENAME_OLD;
            /// `renamedata.new_dentry`.
            rename_new = "RENAME_NEW", RENAME_NEW;
            // Which argument of a function is what, counted from 0.
            /// The `dentry` of `vfs_create`.
            create_dentry = "CREATE_DENTRY", CREATE_DENTRY;
            /// The `dentry` of `vfs_mkdir`.
            mkdir_dentry = "MKDIR_DENTRY", MKDIR_DENTRY;
            /// The `dentry` of `vfs_mknod`.
            mknod_dentry = "MKNOD_DENTRY", MKNOD_DENTRY;
            /// The `dentry` of `vfs_symlink`.
            symlink_dentry = "SYMLINK_DENTRY", SYMLINK_DENTRY;
            /// The new `dentry` of `vfs_link`.
            link_dentry = "LINK_DENTRY", LINK_DENTRY;
            /// The `dentry` of `vfs_unlink`.
            unlink_dentry = "UNLINK_DENTRY", UNLINK_DENTRY;
            /// The `dentry` of `vfs_rmdir`.
            rmdir_dentry = "RMDIR_DENTRY", RMDIR_DENTRY;
            /// The `dentry` of `notify_change`; its `iattr` follows.
            change_dentry = "CHANGE_DENTRY", CHANGE_DENTRY;
            /// The `dentry` of `__vfs_setxattr_noperm`.
            setxattr_dentry = "SETXATTR_DENTRY", SETXATTR_DENTRY;
            /// The `dentry` of `__vfs_removexattr`.
            removexattr_dentry = "REMOVEXATTR_DENTRY", REMOVEXATTR_DENTRY;
            /// The `dentry` of `set_posix_acl`, where it has one.
            acl_dentry = "ACL_DENTRY", ACL_DENTRY;
            /// The `dentry` of `vfs_fileattr_set`.
            flags_dentry = "FLAGS_DENTRY", FLAGS_DENTRY;
            // How many arguments a function has, which is where its return value stands after a trampoline's.
            /// Of `vfs_create`.
            create_arguments = "CREATE_ARGUMENTS", CREATE_ARGUMENTS;
            /// Of `vfs_mkdir`.
            mkdir_arguments = "MKDIR_ARGUMENTS", MKDIR_ARGUMENTS;
            /// Of `vfs_mknod`.
            mknod_arguments = "MKNOD_ARGUMENTS", MKNOD_ARGUMENTS;
            /// Of `vfs_symlink`.
            symlink_arguments = "SYMLINK_ARGUMENTS", SYMLINK_ARGUMENTS;
            /// Of `vfs_link`.
            link_arguments = "LINK_ARGUMENTS", LINK_ARGUMENTS;
            /// Of `vfs_unlink`.
            unlink_arguments = "UNLINK_ARGUMENTS", UNLINK_ARGUMENTS;
            /// Of `vfs_rmdir`.
            rmdir_arguments = "RMDIR_ARGUMENTS", RMDIR_ARGUMENTS;
            /// Of `vfs_rename`: 1 for a `renamedata`, 6 for the older form.
            rename_arguments = "RENAME_ARGUMENTS", RENAME_ARGUMENTS;
            /// Of `notify_change`.
            change_arguments = "CHANGE_ARGUMENTS", CHANGE_ARGUMENTS;
            /// Of `__vfs_setxattr_noperm`.
            setxattr_arguments = "SETXATTR_ARGUMENTS", SETXATTR_ARGUMENTS;
            /// Of `__vfs_removexattr`.
            removexattr_arguments = "REMOVEXATTR_ARGUMENTS", REMOVEXATTR_ARGUMENTS;
            /// Of `set_posix_acl`.
            acl_arguments = "ACL_ARGUMENTS", ACL_ARGUMENTS;
            /// Of `vfs_fileattr_set`.
            flags_arguments = "FLAGS_ARGUMENTS", FLAGS_ARGUMENTS;
            // What the kernel is like, and what it is asked.
            /// 1 where `vfs_mkdir` returns a `dentry` or an error as a pointer, 0 where it returns an `int`.
            mkdir_returns_dentry = "MKDIR_RETURNS_DENTRY", MKDIR_RETURNS_DENTRY;
            /// The bit of `file.f_mode` that says that this open made the file; 0 where there is none.
            mode_created = "MODE_CREATED", MODE_CREATED;
            /// 1 where the kernel hands out the running task with its type (`bpf_get_current_task_btf`) to trampolines, 0 elsewhere and for probes.
            typed_task = "TYPED_TASK", TYPED_TASK;
            /// 1 where the kernel may put another thread in the place of one that runs a program, and each program has a second one; 0 elsewhere.
            second = "SECOND", SECOND;
            /// 1 where records go through a ring buffer, 0 where through a perf buffer per processor.
            ring = "RING", RING;
            /// Directories between a change and its root before the program gives up and tells of everything.
            deepest_walk = "DEEPEST_WALK", DEEPEST_WALK;
            /// Names in a path before it is told as a tree of an ancestor.
            most_names = "MOST_NAMES", MOST_NAMES;
        }
    };
}

macro_rules! values {
    ($($(#[$doc:meta])* $field:ident = $name:literal, $global:ident;)*) => {
        /// A value for every setting; [`ABSENT`] where this kernel has no such thing, and then no program that needs it is loaded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Settings {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Settings {
            /// Nothing is known.
            pub const UNKNOWN: Self = Self { $($field: ABSENT,)* };

            /// Names of the globals, each with its value.
            pub fn globals(&self) -> impl Iterator<Item = (&'static str, &u64)> {
                [$(($name, &self.$field),)*].into_iter()
            }
        }
    };
}

for_each_setting!(values);
