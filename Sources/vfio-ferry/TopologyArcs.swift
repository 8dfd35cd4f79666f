// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// The curves between named devices in the drawn tree: from one device's row to the other's, the further the rows the
/// wider the curve.
struct TopologyArcs {
  /// One curve, for one direction or for both where they are alike.
  struct Arc {
    let pair: PeerOptions.Pair
    let isBothWays: Bool
    let link: Reachability.Link
    /// Where it leaves and where it ends, from the top.
    var fromY = 0
    var toY = 0
    /// How far its handles stand out to the right.
    var reach = 0
  }

  private(set) var arcs: [Arc] = []

  /// How much room the curves take to the right.
  var width: Int { (arcs.map { $0.reach * 3 / 4 }.max() ?? 0) + 16 }

  /// - Parameter areas: where each named device's box is, by position; nil where it has none.
  init(_ view: TopologyView, areas: [Int: SVGDrawing.Area]) {
    let areas = view.records.indices.map { areas[$0] }
    for pair in view.pairs where areas[pair.from] != nil && areas[pair.to] != nil {
      let link = view.reachability[pair.from, pair.to]
      let isBothWays = view.isBothWays(pair)
      if !link.exists || (isBothWays && pair.from > pair.to) { continue }
      arcs.append(Arc(pair: pair, isBothWays: isBothWays, link: link))
    }
    spread(areas.map { $0 ?? SVGDrawing.Area(x: 0, y: 0, width: 0, height: 0) })
    // Curves of the same span would lie on each other: each is a little wider than the one before it.
    let order = arcs.indices.sorted { (arcs[$0].span, $0) < (arcs[$1].span, $1) }
    for (rank, index) in order.enumerated() {
      arcs[index].reach = 34 + rank * 13 + arcs[index].span / 14
    }
    let widest = arcs.map(\.reach).max() ?? 0
    if widest > Self.maximumReach {
      for index in arcs.indices { arcs[index].reach = max(26, arcs[index].reach * Self.maximumReach / widest) }
    }
  }

  private static let maximumReach = 520

  /// Gives every curve a place of its own at each device. The nearest leave outermost, so that curves of one device
  /// don't cross.
  private mutating func spread(_ areas: [SVGDrawing.Area]) {
    var arcsOfDevices = [[Int]](repeating: [], count: areas.count)
    for (index, arc) in arcs.enumerated() {
      arcsOfDevices[arc.pair.from].append(index)
      arcsOfDevices[arc.pair.to].append(index)
    }
    for (device, own) in arcsOfDevices.enumerated() where !own.isEmpty {
      func other(_ index: Int) -> Int {
        areas[arcs[index].pair.from == device ? arcs[index].pair.to : arcs[index].pair.from].middle
      }
      let here = areas[device].middle
      // Upwards from the nearest to the furthest, then downwards from the furthest to the nearest.
      let up = own.filter { other($0) < here }.sorted { (other($1), $0) < (other($0), $1) }
      let down = own.filter { other($0) >= here }.sorted { (other($1), $1) < (other($0), $0) }
      let inOrder = up + down
      let room = areas[device].height - 10
      for (place, index) in inOrder.enumerated() {
        let y = areas[device].y + 5 + room * (2 * place + 1) / (2 * inOrder.count)
        if arcs[index].pair.from == device { arcs[index].fromY = y } else { arcs[index].toY = y }
      }
    }
  }
}

extension TopologyArcs.Arc {
  /// Whether it bypasses the root complex.
  var isDirect: Bool { PathLook.of(link.path) == .direct }

  /// How far its ends are apart.
  var span: Int { abs(fromY - toY) }

  /// The curve as a path's data.
  func data(x: Int) -> String { "M \(x) \(fromY) C \(x + reach) \(fromY), \(x + reach) \(toY), \(x) \(toY)" }
}

/// How a path is drawn, in every kind of picture.
struct PathLook: Hashable {
  let key: String
  let colour: String
  let dashes: String
  let width: Int
  let words: String

  /// In the order of a legend.
  static let all = [direct, redirected, unknown]
  static let direct = PathLook(
    key: "direct", colour: "#c2410c", dashes: "", width: 2, words: "direct: turned around below the root complex")
  static let redirected = PathLook(
    key: "redirected", colour: "#1d5fa8", dashes: "8 4", width: 1, words: "through the root complex")
  static let unknown = PathLook(
    key: "unknown", colour: "#6b7280", dashes: "2 3", width: 1, words: "unknown, counts as a link")

  /// How a curve of this look ends and is dashed, as attributes in SVG.
  func attributes(isBothWays: Bool) -> String {
    "marker-end=\"url(#to-\(key))\"" + (isBothWays ? " marker-start=\"url(#to-\(key))\"" : "")
      + (dashes.isEmpty ? "" : " stroke-dasharray=\"\(dashes)\"")
  }

  /// The look of a path; nil for none.
  static func of(_ path: Reachability.Path) -> PathLook? {
    switch path {
    case .none: nil
    case .direct: direct
    case .redirected: redirected
    case .unknown: unknown
    }
  }
}
