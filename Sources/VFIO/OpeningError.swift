// SPDX-License-Identifier: Apache-2.0
public import LinuxIO

/// A device that could not be opened.
public struct OpeningError: Error, Hashable, Sendable {
  /// The device, as the user named it.
  public let device: String
  /// Which call failed.
  public let cause: SystemError
  /// What a person can do about it; empty where nothing is known.
  public let remedy: String

  /// A failure to open that device.
  public init(device: String, cause: SystemError, remedy: String = "") {
    self.device = device
    self.cause = cause
    self.remedy = remedy
  }
}

extension OpeningError: CustomStringConvertible {
  public var description: String {
    "can't open \(device): \(cause)" + (remedy.isEmpty ? "" : "; \(remedy)")
  }
}
