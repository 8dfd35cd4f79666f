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
    let targets = Self.targetsOnWay(among: among, count: devices.count, reachability: reachability)
    var shortest: [Int] = []
    // Two is as short as a circle gets.
    for first in among where shortest.count != 2 {
      let limit = shortest.isEmpty ? among.count : shortest.count - 1
      let cycle = Self.cycle(through: first, targets: targets, limit: limit)
      if !cycle.isEmpty { shortest = cycle }
    }
    precondition(!shortest.isEmpty, "there is no circle to refuse")
    let cycle = shortest
    self.cycle = cycle
    links = cycle.indices.map { index in
      let (from, to) = (cycle[index], cycle[(index + 1) % cycle.count])
      return Link(from: devices[from].name, to: devices[to].name, link: reachability[from, to])
    }
  }

  /// For each device of `among` the devices that it can start transfers to, in the group's order; without those from
  /// which nothing leads on, and so not back into a circle.
  private static func targetsOnWay(among: [Int], count: Int, reachability: Reachability) -> [[Int]] {
    var targets = [[Int]](repeating: [], count: count)
    var sources = [[Int]](repeating: [], count: count)
    for from in among {
      targets[from] = among.filter { reachability.reaches(from, $0) }
      for to in targets[from] { sources[to].append(from) }
    }
    var open = targets.map(\.count)
    var ends = among.filter { open[$0] == 0 }
    while let end = ends.popLast() {
      for source in sources[end] {
        open[source] -= 1
        if open[source] == 0 { ends.append(source) }
      }
    }
    return targets.map { $0.filter { open[$0] > 0 } }
  }

  /// The shortest circle through a device, of `limit` devices at most; empty where there is none. Of several as short
  /// it is the one whose devices come first in the group's order.
  private static func cycle(through first: Int, targets: [[Int]], limit: Int) -> [Int] {
    var reached: [(device: Int, before: Int, length: Int)] = [(first, -1, 1)]
    var isReached = [Bool](repeating: false, count: targets.count)
    isReached[first] = true
    var next = 0
    while next < reached.count, reached[next].length <= limit {
      let here = reached[next]
      for target in targets[here.device] {
        if target == first {
          var path: [Int] = []
          var at = next
          while at >= 0 {
            path.append(reached[at].device)
            at = reached[at].before
          }
          return path.reversed()
        }
        if isReached[target] { continue }
        isReached[target] = true
        reached.append((target, next, here.length + 1))
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
