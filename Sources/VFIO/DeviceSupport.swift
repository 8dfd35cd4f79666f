// SPDX-License-Identifier: Apache-2.0
public import LinuxIO

/// What has to stay open for a device to work: its iommufd, or its group with a container.
public protocol DeviceSupport: AnyObject, Sendable {
  /// Lets a command that this program becomes inherit the descriptors.
  /// - Returns: where the command finds their numbers.
  func handOver() throws(SystemError) -> HandedOver
}

/// A variable of the environment in which a command finds the numbers of descriptors that it inherited.
public struct HandedOver: Hashable, Sendable {
  /// The variable's name.
  public let variable: String
  /// Numbers, in the form that the variable's name promises.
  public let value: String
}
