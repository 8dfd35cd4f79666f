// SPDX-License-Identifier: Apache-2.0

/// What travels on the fabric. A packet carries a whole message part: what PCIe would split stays together.
struct FabricPacket: Hashable, Sendable {
  /// The three kinds that PCIe's ordering rules tell apart.
  enum Kind: UInt8, CaseIterable, Hashable, Sendable {
    /// A request that is not answered.
    case posted
    /// A request that is answered.
    case nonPosted
    /// An answer.
    case completion
  }

  /// What it says.
  enum Body: Hashable, Sendable {
    /// Posted: memory or a BAR is written, from that address on.
    case write(address: UInt64, words: [UInt64])
    /// Non-posted: so many words are wanted, from that address on.
    case read(address: UInt64, words: Int, tag: UInt64)
    /// The words of a read; empty where the address led nowhere.
    case readReply(tag: UInt64, words: [UInt64])
    /// Non-posted: a driver's command. What it asks for is known to who sent it.
    case command(number: UInt64)
    /// The device has done it.
    case commandReply(number: UInt64)
    /// Non-posted: a function's configuration space is read, for a flush. The ``Fabric`` answers for the function.
    case configRead(tag: UInt64)
    /// The function's answer.
    case configReply(tag: UInt64)
  }

  /// The node that it comes from; 0 is the root: processors and memory.
  var from: Int
  /// The node that it goes to.
  var to: Int
  /// The node of the function that it counts as for ID-based ordering: the requester, of a completion the completer.
  var requester: Int
  /// Whether its address is translated already (ATS), so that a port may let it turn without the root.
  var isTranslated: Bool
  /// What it says.
  var body: Body

  init(from: Int, to: Int, requester: Int? = nil, isTranslated: Bool = false, _ body: Body) {
    self.from = from
    self.to = to
    self.requester = requester ?? from
    self.isTranslated = isTranslated
    self.body = body
  }

  /// Which of PCIe's kinds it is.
  var kind: Kind {
    switch body {
    case .write: .posted
    case .read, .command, .configRead: .nonPosted
    case .readReply, .commandReply, .configReply: .completion
    }
  }

  /// What it takes on a link: its content and a word around it.
  var words: Int {
    switch body {
    case .write(_, let words), .readReply(_, let words): words.count + 1
    default: 1
    }
  }
}
