//! The nodes of the dirty set: a tree of names, one node for every path that is marked or lies above a marked one.
//!
//! Names are stored once, children are found through one hash table over (parent, name), and freed places are used again. A node
//! takes 56 bytes, its name and about 8 bytes of table.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::model::{Ops, RelPathBuf, Scope, Stamp};

/// Index of a node; `NONE` where there is none.
pub(super) type Id = u32;

/// No node.
pub(super) const NONE: Id = u32::MAX;

/// The watched root.
pub(super) const ROOT: Id = 0;

/// One path.
pub(super) struct Node {
    name: Box<[u8]>,
    parent: Id,
    /// Siblings in no order; `next` chains the free places too.
    first_child: Id,
    next: Id,
    previous: Id,
    /// Neighbours in the queue of marks, by `since`.
    pub older: Id,
    pub newer: Id,
    /// Time from `since` to the latest change, in microseconds, saturating.
    pub quiet_from: u32,
    /// When the path was first marked since it was last sent. Unique in the set.
    pub since: Stamp,
    pub scope: Option<Scope>,
    /// Whether the latest change left a file open.
    pub open: bool,
    pub ops: Ops,
}

impl Node {
    /// `NONE` for the root.
    pub fn parent(&self) -> Id {
        self.parent
    }

    fn new(name: &[u8], parent: Id) -> Self {
        Self {
            name: name.into(),
            parent,
            first_child: NONE,
            next: NONE,
            previous: NONE,
            older: NONE,
            newer: NONE,
            quiet_from: 0,
            since: 0,
            scope: None,
            open: false,
            ops: Ops::empty(),
        }
    }
}

/// All nodes of one set.
pub(super) struct Arena {
    nodes: Vec<Node>,
    free: Id,
    children: HashTable<Id>,
    hasher: DefaultHashBuilder,
}

impl Arena {
    pub fn new() -> Self {
        Self { nodes: vec![Node::new(b"", NONE)], free: NONE, children: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }

    /// How many there are, the root not counted.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Every id is below this.
    pub fn capacity(&self) -> usize {
        self.nodes.len()
    }

    pub fn get(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    pub fn get_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    pub fn child(&self, parent: Id, name: &[u8]) -> Option<Id> {
        let hash = self.hasher.hash_one((parent, name));
        self.children
            .find(hash, |&id| {
                let node = self.get(id);
                node.parent == parent && *node.name == *name
            })
            .copied()
    }

    pub fn child_or_new(&mut self, parent: Id, name: &[u8]) -> Id {
        if let Some(id) = self.child(parent, name) {
            return id;
        }
        let mut node = Node::new(name, parent);
        node.next = self.get(parent).first_child;
        let id = self.place(node);
        let next = self.get(id).next;
        if next != NONE {
            self.get_mut(next).previous = id;
        }
        self.get_mut(parent).first_child = id;
        let hash = self.hasher.hash_one((parent, name));
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.children.insert_unique(hash, id, |&other| {
            let node = &nodes[other as usize];
            hasher.hash_one((node.parent, &*node.name))
        });
        id
    }

    fn place(&mut self, node: Node) -> Id {
        if self.free == NONE {
            self.nodes.push(node);
            return Id::try_from(self.nodes.len() - 1).expect("a set of four thousand million paths does not fit in memory");
        }
        let id = self.free;
        self.free = self.get(id).next;
        *self.get_mut(id) = node;
        id
    }

    pub fn path(&self, id: Id) -> RelPathBuf {
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            let node = self.get(at);
            names.push(&*node.name);
            at = node.parent;
        }
        names.reverse();
        RelPathBuf::new(names.join(&b'/')).expect("made of names that were checked")
    }

    /// The nodes below `id`, parents before children. `id` itself is not among them.
    pub fn below(&self, id: Id) -> Vec<Id> {
        let mut found = Vec::new();
        let mut visited = 0;
        self.push_children(id, &mut found);
        while visited < found.len() {
            self.push_children(found[visited], &mut found);
            visited += 1;
        }
        found
    }

    fn push_children(&self, id: Id, found: &mut Vec<Id>) {
        let mut child = self.get(id).first_child;
        while child != NONE {
            found.push(child);
            child = self.get(child).next;
        }
    }

    /// Frees `id` and every ancestor that holds neither a mark nor a child. Does nothing where `id` is still of use.
    pub fn prune(&mut self, mut id: Id) {
        while id != ROOT && self.get(id).scope.is_none() && self.get(id).first_child == NONE {
            let parent = self.get(id).parent;
            self.remove(id);
            id = parent;
        }
        if self.children.is_empty() {
            self.release_memory();
        }
    }

    /// Frees a node that has no child.
    pub fn remove(&mut self, id: Id) {
        let Node { ref name, parent, next, previous, .. } = *self.get(id);
        let hash = self.hasher.hash_one((parent, &**name));
        self.children.find_entry(hash, |&other| other == id).expect("every node but the root is in the table").remove();
        if next != NONE {
            self.get_mut(next).previous = previous;
        }
        if previous == NONE {
            self.get_mut(parent).first_child = next;
        } else {
            self.get_mut(previous).next = next;
        }
        let free = self.free;
        let node = self.get_mut(id);
        node.name = Box::default();
        node.next = free;
        self.free = id;
    }

    /// An empty set keeps a little room and gives back what a flood took.
    fn release_memory(&mut self) {
        const KEPT: usize = 1024;
        if self.nodes.capacity() > KEPT {
            self.nodes.truncate(1);
            self.nodes.shrink_to(KEPT);
            self.free = NONE;
            self.children = HashTable::new();
        }
    }
}
