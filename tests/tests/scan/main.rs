//! The catch-up scan against real trees: what it marks, looked at by `plan` and carried out by a real rsync, makes a target equal that was
//! equal at the cutoff; a model of what marks promise says the same of many more trees.

mod cases;
mod lab;
mod limits;
mod model;
mod random;
