// SPDX-License-Identifier: Apache-2.0

/// A packet of the network.
struct RDMAPacket: Hashable, Sendable {
  enum Operation: UInt8, Hashable, Sendable {
    // Requests.
    case send, write, readRequest, fetchAdd, compareSwap
    // Replies.
    case readResponse, atomicResponse, acknowledgement, negativeAcknowledgement, receiverNotReady
    /// A NIC says where it is, so that switches learn it.
    case announcement

    var isRequest: Bool { rawValue <= Operation.compareSwap.rawValue }
  }

  /// Where in its message a packet is.
  struct Position: OptionSet, Hashable, Sendable {
    let rawValue: UInt8
    static let first = Position(rawValue: 1)
    static let last = Position(rawValue: 2)
    static let middle: Position = []
    static let only: Position = [.first, .last]
  }

  /// Why a request was refused.
  enum Refusal: UInt8, Hashable, Sendable {
    case sequenceError, invalidRequest, remoteAccessError
  }

  /// Network addresses of the NICs.
  var source: UInt32
  var destination: UInt32
  /// The number of the QP that it is for.
  var queuePair: UInt32
  var psn: PacketSequenceNumber
  var operation: Operation
  var position = Position.only
  /// A request wants to be acknowledged.
  var asksForAcknowledgement = false
  /// Of a negative acknowledgement.
  var refusal = Refusal.sequenceError
  /// Words of the whole message, in its first packet; microseconds to wait, where no receive was posted.
  var length: UInt32 = 0
  /// The remote key, in the first packet of a message that names an address.
  var key: UInt32 = 0
  var address: UInt64 = 0
  /// Data, at most an MTU. An atomic's operands: what to add; or what to put there, and what has to be there for it.
  var words: [UInt64] = []

  /// The address to which announcements go.
  static let broadcast = UInt32.max
}
