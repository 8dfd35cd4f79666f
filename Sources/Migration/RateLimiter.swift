// SPDX-License-Identifier: Apache-2.0

/// How a device's traffic is limited.
public enum RateLimiterKind: String, CaseIterable, Hashable, Sendable {
  /// What comes in to the device is limited, by a police action in the traffic control of the host's switch: packets over
  /// the rate are dropped, and their senders send them again.
  case police
  /// What the device sends is limited, by devlink's rate. This is the weaker one: what a device receives is what dirties
  /// memory, and that it slows down only where it answers to what the device sends.
  case devlinkRate = "devlink-rate"
}

extension RateLimiterKind: CustomStringConvertible {
  public var description: String {
    switch self {
    case .police: "police (limits what the device receives)"
    case .devlinkRate: "devlink-rate (weaker: limits what the device sends)"
    }
  }
}

/// Limits a device's traffic, so that it dirties memory more slowly than the link carries it away.
///
/// This stands for the paper's principle DA9 (DevThrottle), which has no uAPI. A limit is the host's, not the process's:
/// it outlives the process that set it, so each implementation keeps a record of what to put back, made before anything is
/// set. The calls wait for the kernel, shortly, and are for one thread at a time.
public protocol RateLimiter: AnyObject, Sendable {
  /// How it limits.
  var kind: RateLimiterKind { get }

  /// Limits to so many bytes a second, in place of what it set before.
  ///
  /// When it throws, what was in force before the call still is; where even that failed the error says so, and
  /// ``restore()`` puts back what is left.
  /// - Parameter bytesPerSecond: bytes of Ethernet frames; not 0, because a peer whose packets never arrive gives up.
  func limit(to bytesPerSecond: UInt64) throws(RateLimiterError)

  /// Puts things back as they were before the first limit. Does nothing where none is set, so it may be called again.
  func restore() throws(RateLimiterError)
}

/// A limit that could not be set or put back.
public struct RateLimiterError: Error, Hashable, Sendable {
  /// Why it failed.
  public enum Cause: Hashable, Sendable {
    /// The kernel answered with this error number; and its own words, or what to do about it, where there are any.
    case kernel(ErrorNumber, words: String)
    /// The host is not as it has to be; says in which way, and what to do about it where that is known.
    case refused(String)
  }

  /// The device, as users call it.
  public let device: String
  /// How it was to be limited.
  public let kind: RateLimiterKind
  /// What was being done, as in "adding the filter".
  public let operation: String
  /// On what: a network interface, a devlink port or a file.
  public let subject: String
  /// Why it failed.
  public let cause: Cause
  /// What went wrong while the change was being taken back, after the failure; empty where nothing did.
  public var wayBack: [String]

  /// A failure and its cause.
  public init(
    device: String, kind: RateLimiterKind, operation: String, subject: String, cause: Cause, wayBack: [String] = []
  ) {
    self.device = device
    self.kind = kind
    self.operation = operation
    self.subject = subject
    self.cause = cause
    self.wayBack = wayBack
  }
}

extension RateLimiterError: CustomStringConvertible {
  public var description: String {
    let reason =
      switch cause {
      case .kernel(let number, let words): words.isEmpty ? "\(number)" : "\(number), \"\(words)\""
      case .refused(let reason): reason
      }
    let rest = wayBack.isEmpty ? "" : "; and on the way back: \(wayBack.joined(separator: "; "))"
    return "\(device): \(kind.rawValue): \(operation) (\(subject)): \(reason)\(rest)"
  }
}
