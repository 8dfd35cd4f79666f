// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// One direction of a link: when a packet that enters it comes out at the other end.
///
/// Of PCIe's ordering table ("Ordering Rules") all that forbids is this: nothing passes a posted request that was there before
/// it, except what is sent with ID-based ordering, which stays behind those of its own function only. (Relaxed ordering is not
/// used here, and a read has one completion.) So a lane need not search what is under way. It keeps the time at which the
/// last posted request comes out, and with ID-based ordering that of each function; a packet comes out by chance at or after its
/// own time, and never before that bound.
///
/// Packets that come out at the same time come out in the order in which they went in.
struct FabricLane: Hashable, Sendable {
  private let link: FabricShape.Link
  /// Whether it keeps PCIe's order, and how much longer it may hold up a posted request where it does not.
  private var keepsOrder: Bool
  private var holdUp: UInt64 = 0
  /// What was put on the link so far, in words since time 0: where the link is free again.
  private var occupied: UInt64 = 0
  private var lastPosted: UInt64 = 0
  /// The same for each function with ID-based ordering.
  private var lastPostedOf: [UInt64]

  /// - Parameter idOrdered: how many functions use ID-based ordering.
  init(_ link: FabricShape.Link, idOrdered: Int, keepsOrder: Bool) {
    self.link = link
    self.keepsOrder = keepsOrder
    lastPostedOf = Array(repeating: 0, count: idOrdered)
  }

  /// From now on it keeps no order.
  mutating func loseOrder(holdingUp: UInt64) {
    keepsOrder = false
    holdUp = holdingUp
  }

  /// A packet goes in. - Returns: when it comes out.
  /// - Parameters:
  ///   - stream: its function's number among those with ID-based ordering, or nil.
  ///   - isFree: whether it is sent with ID-based ordering itself.
  mutating func enter(
    _ kind: FabricPacket.Kind, words: Int, stream: Int?, isFree: Bool, at now: MonotonicTime,
    _ random: inout SeededGenerator
  ) -> MonotonicTime {
    var time = now.microseconds
    if link.wordsPerMicrosecond > 0 {
      let (start, overflow) = time.multipliedReportingOverflow(by: link.wordsPerMicrosecond)
      occupied = max(occupied, overflow ? .max / 2 : min(start, .max / 2)) + UInt64(words)
      time = (occupied + link.wordsPerMicrosecond - 1) / link.wordsPerMicrosecond
    }
    let chance = link.spread > 0 ? UInt64(random.next(below: Int(link.spread) + 1)) : 0
    time = MonotonicTime(microseconds: time).adding(microseconds: link.delay + chance).microseconds
    guard keepsOrder else {
      if kind == .posted, holdUp > 0 { time += UInt64(random.next(below: Int(holdUp) + 1)) }
      return MonotonicTime(microseconds: time)
    }
    if isFree, let stream {
      time = max(time, lastPostedOf[stream])
    } else {
      time = max(time, lastPosted)
    }
    if kind == .posted {
      lastPosted = max(lastPosted, time)
      if let stream { lastPostedOf[stream] = max(lastPostedOf[stream], time) }
    }
    return MonotonicTime(microseconds: time)
  }
}
