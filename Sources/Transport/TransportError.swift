// SPDX-License-Identifier: Apache-2.0
public import LinuxIO

/// Why there is no channel.
public enum TransportError: Error, Hashable, Sendable {
  /// An address that makes no sense, and why.
  case address(String, String)
  /// A host's name that stands for no address.
  case name(ResolutionError)
  /// Nobody was reached: what was tried last, one for each address that the name stands for.
  case unreached([SystemError], seconds: UInt32)
  /// Nobody came.
  case nobodyCame(at: String, seconds: UInt32)
  /// Somebody came, and said nothing.
  case silent(String, seconds: UInt32)
  /// A call failed.
  case system(SystemError)
  /// It was cancelled.
  case cancelled

  /// Whether whoever wrote the address has to mend it.
  public var isMisuse: Bool {
    switch self {
    case .address: true
    case .name(let error): !error.isPassing
    case .unreached, .nobodyCame, .silent, .system, .cancelled: false
    }
  }
}

extension TransportError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .address(let text, let reason):
      "the address \"\(text)\": \(reason); give tcp:HOST:PORT, unix:PATH, or fd:N for a connected socket"
    case .name(let error): "\(error); give a number, or a name that this host knows"
    case .unreached(let errors, let seconds):
      errors.map { "\($0)" }.joined(separator: "; ")
        + "; tried for \(seconds) s: is \"vfio-ferry receive\" waiting there?"
    case .nobodyCame(let place, let seconds): "nobody connected to \(place) within \(seconds) s"
    case .silent(let peer, let seconds): "\(peer) connected, and said nothing for \(seconds) s"
    case .system(let error): "\(error)"
    case .cancelled: "it was cancelled"
    }
  }
}
