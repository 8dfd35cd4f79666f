// SPDX-License-Identifier: Apache-2.0

/// Why no order brings a group to a consistent stop: devices without P2P states that can start transfers to each other
/// in a circle. Whichever of them stops first, one that still runs can write to it.
public struct QuiesceRefusal: Error, Hashable, Sendable {
  /// One link of the circle.
  public struct Link: Hashable, Sendable {
    /// The name of the device that can start transfers.
    public var from: String
    /// The name of the device that it can start them to: the next one in the circle.
    public var to: String
    /// By which way, and who says so.
    public var link: Reachability.Link
  }

  /// The circle's devices by their positions in the group; no shorter circle exists. Each can start transfers to the
  /// next, and the last to the first.
  public let cycle: [Int]
  /// The circle's links, in the same order.
  public let links: [Link]

  /// - Parameter among: devices each of which some other of them can start transfers to, so that there is a circle.
  init(devices: [QuiescePlan.Device], among: [Int], reachability: Reachability) {
    var shortest: [Int] = []
    for first in among {
      let cycle = Self.cycle(through: first, among: among, reachability: reachability)
      if !cycle.isEmpty, shortest.isEmpty || cycle.count < shortest.count { shortest = cycle }
    }
    precondition(!shortest.isEmpty, "there is no circle to refuse")
    let cycle = shortest
    self.cycle = cycle
    links = cycle.indices.map { index in
      let (from, to) = (cycle[index], cycle[(index + 1) % cycle.count])
      return Link(from: devices[from].name, to: devices[to].name, link: reachability[from, to])
    }
  }

  /// The shortest circle through a device; empty where there is none.
  private static func cycle(through first: Int, among: [Int], reachability: Reachability) -> [Int] {
    var reached: [(device: Int, before: Int?)] = [(first, nil)]
    var next = 0
    while next < reached.count {
      let device = reached[next].device
      if device != first || next == 0, reachability.reaches(device, first) {
        var path: [Int] = []
        var at: Int? = next
        while let index = at {
          path.append(reached[index].device)
          at = reached[index].before
        }
        return path.reversed()
      }
      for other in among where reachability.reaches(device, other) && !reached.contains(where: { $0.device == other }) {
        reached.append((other, next))
      }
      next += 1
    }
    return []
  }
}

extension QuiesceRefusal: CustomStringConvertible {
  /// One line: the circle, its paths, and what would allow the group.
  public var description: String {
    let circle = links.map { "\($0.from) can start transfers to \($0.to) (\($0.link.path): \($0.link.reason))" }
    let names = links.map(\.from)
    let listed = names.dropLast().joined(separator: ", ") + " and " + (names.last ?? "")
    return "no order stops \(listed) consistently, because they have no P2P states: \(circle.joined(separator: "; ")); "
      + "one of these links that is declared not to exist would allow it, or P2P states in one of these devices, or "
      + "streams of their own where they don't talk to each other"
  }
}
