// SPDX-License-Identifier: Apache-2.0
internal import CXXHash
public import Migration

extension StreamChecksum {
  /// The checksum of the stream format: XXH3 with 64 bits and seed 0, from the xxHash library.
  public static let xxh3 = StreamChecksum { bytes in
    unsafe bytes.withUnsafeBytes { bytes in
      unsafe XXH3_64bits(bytes.baseAddress, bytes.count)
    }
  }
}
