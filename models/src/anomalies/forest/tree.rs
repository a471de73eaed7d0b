//! One tree of the forest.

use super::{SplitMix64, mean_path};

/// The nodes of a tree, each after its parent; the first is the root.
pub struct Tree {
    nodes: Vec<Node>,
}

enum Node {
    /// Points up to `cut` go to the node `below`, the others to `above`.
    Split { coordinate: usize, cut: f64, below: usize, above: usize },
    /// The path length of the points that end here: the cuts so far, plus the expected number for the remaining points.
    Leaf { path: f64 },
}

impl Tree {
    /// Splits `points` until they are isolated, identical, or as deep as in a balanced tree.
    pub fn grow(points: &[&[f64]], random: &mut SplitMix64) -> Self {
        let depth_max = points.len().next_power_of_two().trailing_zeros();
        let mut tree = Tree { nodes: Vec::with_capacity(2 * points.len()) };
        tree.add(&mut points.to_vec(), depth_max, 0, random);
        tree
    }

    /// Adds the subtree of `points`; returns the index of its root.
    fn add(&mut self, points: &mut [&[f64]], depth_max: u32, depth: u32, random: &mut SplitMix64) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node::Leaf { path: f64::from(depth) + mean_path(points.len()) });
        if depth < depth_max
            && let Some((coordinate, cut)) = random_cut(points, random)
        {
            let (lower, upper) = partition(points, coordinate, cut);
            let below = self.add(lower, depth_max, depth + 1, random);
            let above = self.add(upper, depth_max, depth + 1, random);
            if let Some(node) = self.nodes.get_mut(index) {
                *node = Node::Split { coordinate, cut, below, above };
            }
        }
        index
    }

    /// The path length of a point.
    pub fn path(&self, point: &[f64]) -> f64 {
        let mut index = 0;
        loop {
            match self.nodes.get(index) {
                Some(Node::Split { coordinate, cut, below, above }) => {
                    let is_below = point.get(*coordinate).is_some_and(|value| value <= cut);
                    index = if is_below { *below } else { *above };
                }
                Some(Node::Leaf { path }) => return *path,
                None => return 0.0,
            }
        }
    }
}

/// A random coordinate in which the points differ, and a value in `[least, greatest)` of it; `None` where all are
/// equal.
fn random_cut(points: &[&[f64]], random: &mut SplitMix64) -> Option<(usize, f64)> {
    let (first, rest) = points.split_first()?;
    let mut ranges: Vec<(f64, f64)> = first.iter().map(|value| (*value, *value)).collect();
    for point in rest {
        for (range, value) in ranges.iter_mut().zip(*point) {
            *range = (range.0.min(*value), range.1.max(*value));
        }
    }
    let differing: Vec<(usize, (f64, f64))> = ranges.into_iter().enumerate().filter(|(_, r)| r.0 < r.1).collect();
    let (coordinate, (least, greatest)) = *differing.get(random.below(differing.len()))?;
    let share = random.unit();
    let cut = least + share * (greatest - least);
    // Rounding may reach the greatest value, which would leave no point above.
    Some((coordinate, if cut < greatest { cut } else { least }))
}

/// Moves the points up to `cut` to the front; returns them and the others.
fn partition<'s, 'p>(
    points: &'s mut [&'p [f64]],
    coordinate: usize,
    cut: f64,
) -> (&'s mut [&'p [f64]], &'s mut [&'p [f64]]) {
    let mut below = 0;
    for index in 0..points.len() {
        let is_below = points.get(index).and_then(|point| point.get(coordinate)).is_some_and(|value| *value <= cut);
        if is_below {
            points.swap(index, below);
            below += 1;
        }
    }
    points.split_at_mut(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts from the root to the deepest leaf.
    fn depth(tree: &Tree, index: usize) -> usize {
        match tree.nodes[index] {
            Node::Split { below, above, .. } => 1 + depth(tree, below).max(depth(tree, above)),
            Node::Leaf { .. } => 0,
        }
    }

    #[test]
    fn a_tree_is_as_deep_as_a_balanced_one() {
        for (points, expected) in [(2, 1), (4, 2), (5, 3), (256, 8)] {
            let values: Vec<[f64; 1]> = (0..points).map(|value| [f64::from(value)]).collect();
            let rows: Vec<&[f64]> = values.iter().map(|value| value.as_slice()).collect();
            assert_eq!(depth(&Tree::grow(&rows, &mut SplitMix64::new(1)), 0), expected, "{points} points");
        }
    }

    #[test]
    fn a_cut_leaves_points_on_both_sides() {
        // Adjacent floats, so that a cut between them is rounded to one of them.
        let (least, greatest) = ([1.0], [1.0 + f64::EPSILON]);
        for seed in 0..50 {
            let tree = Tree::grow(&[&least, &greatest], &mut SplitMix64::new(seed));
            assert_eq!([tree.path(&least), tree.path(&greatest)], [1.0, 1.0]);
            assert_eq!(tree.nodes.len(), 3);
        }
    }
}
